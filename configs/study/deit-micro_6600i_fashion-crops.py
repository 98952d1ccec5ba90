# 6 blocks for the FLOPs of deit-single_32k.
_base_ = './deit-single_32k_fashion-crops.py'

model = dict(backbone=dict(arch=dict(num_layers=6)))

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, by_epoch=False, begin=0, end=400),
    dict(type='LinearLR', start_factor=1., end_factor=1e-3, by_epoch=False, begin=5610, end=6600),
]

train_cfg = dict(max_iters=6600, val_interval=660)

default_hooks = dict(checkpoint=dict(interval=330))
