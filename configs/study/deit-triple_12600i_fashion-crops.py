# 3 blocks for the FLOPs of deit-single_32k.
_base_ = './deit-single_32k_fashion-crops.py'

model = dict(backbone=dict(arch=dict(num_layers=3)))

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, by_epoch=False, begin=0, end=400),
    dict(type='LinearLR', start_factor=1., end_factor=1e-3, by_epoch=False, begin=10710, end=12600),
]

train_cfg = dict(max_iters=12600, val_interval=1260)

default_hooks = dict(checkpoint=dict(interval=630))
