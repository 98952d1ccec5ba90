# The same for twice as long, for bases of many ages.
_base_ = './deit-micro_8k_fashion-mnist.py'

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, by_epoch=False, begin=0, end=400),
    dict(type='LinearLR', start_factor=1., end_factor=1e-3, by_epoch=False, begin=13600, end=16000),
]

train_cfg = dict(max_iters=16000, val_interval=1600)

default_hooks = dict(checkpoint=dict(interval=200))
