# deit-narrow for four times as long.
_base_ = './deit-narrow_32k_fashion-crops.py'

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, by_epoch=False, begin=0, end=400),
    dict(type='LinearLR', start_factor=1., end_factor=1e-3, by_epoch=False, begin=108800, end=128000),
]

train_cfg = dict(max_iters=128000, val_interval=12800)

default_hooks = dict(checkpoint=dict(interval=1600))
