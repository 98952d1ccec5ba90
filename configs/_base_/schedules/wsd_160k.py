# Warmup, stable, decay in iterations; see wsd_12e.py, the two numbers too.
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, end=1500),
    dict(type='LinearLR', start_factor=1., end_factor=1e-2, by_epoch=False, begin=120000),
]

custom_hooks = [dict(type='mmscalenet.DepthHook', mode='grow', begin=110000)]

train_cfg = dict(type='IterBasedTrainLoop', max_iters=160000, val_interval=16000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
