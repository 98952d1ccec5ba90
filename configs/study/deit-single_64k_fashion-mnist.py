# The base of the study with 1 block in the place of 6, for as many FLOPs as deit-shallow_32k.
_base_ = './deit-shallow_32k_fashion-mnist.py'

model = dict(backbone=dict(arch=dict(num_layers=1)))

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, by_epoch=False, begin=0, end=400),
    dict(type='LinearLR', start_factor=1., end_factor=1e-3, by_epoch=False, begin=54400, end=64000),
]

train_cfg = dict(max_iters=64000, val_interval=6400)

default_hooks = dict(checkpoint=dict(interval=800))
