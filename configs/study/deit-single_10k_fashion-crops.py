# The base of make demo: deit-single_32k with a budget of minutes.
_base_ = './deit-single_32k_fashion-crops.py'

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, by_epoch=False, begin=0, end=400),
    dict(type='LinearLR', start_factor=1., end_factor=1e-3, by_epoch=False, begin=8500, end=10000),
]

train_cfg = dict(max_iters=10000, val_interval=1000)

default_hooks = dict(checkpoint=dict(interval=500))
