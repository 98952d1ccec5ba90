# 2 blocks for the FLOPs of deit-single_32k.
_base_ = './deit-single_32k_fashion-crops.py'

model = dict(backbone=dict(arch=dict(num_layers=2)))

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, by_epoch=False, begin=0, end=400),
    dict(type='LinearLR', start_factor=1., end_factor=1e-3, by_epoch=False, begin=15300, end=18000),
]

train_cfg = dict(max_iters=18000, val_interval=1800)

default_hooks = dict(checkpoint=dict(interval=900))
