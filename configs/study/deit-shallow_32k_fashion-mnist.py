# The same for four times as long, for bases of many ages.
_base_ = './deit-shallow_8k_fashion-mnist.py'

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, by_epoch=False, begin=0, end=400),
    dict(type='LinearLR', start_factor=1., end_factor=1e-3, by_epoch=False, begin=27200, end=32000),
]

train_cfg = dict(max_iters=32000, val_interval=3200)

default_hooks = dict(checkpoint=dict(interval=400))
