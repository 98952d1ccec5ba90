# Warmup, stable, decay for detectors and segmentors; max_iters is the budget, as in schedule.py.
_base_ = '../../_base_/schedules/fashion_scenes_adamw.py'

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, by_epoch=False, begin=0, end=300),
    dict(type='LinearLR', start_factor=1., end_factor=1e-3, by_epoch=False, begin=5100, end=6000),
]

train_cfg = dict(type='IterBasedTrainLoop', max_iters=6000, val_interval=1500)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

custom_hooks = [dict(type='mmscalenet.CurveHook')]
randomness = dict(seed=0)
