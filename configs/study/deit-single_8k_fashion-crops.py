# The base of make demo: deit-single_32k with a budget of minutes.
_base_ = './deit-single_32k_fashion-crops.py'

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, by_epoch=False, begin=0, end=400),
    dict(type='LinearLR', start_factor=1., end_factor=1e-3, by_epoch=False, begin=6800, end=8000),
]

train_cfg = dict(max_iters=8000, val_interval=800)
