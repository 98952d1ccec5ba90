# Warmup, stable, decay (arXiv 2404.06395): a constant rate, in which a net can grow and from which runs can fork, and
# one decay at the end. Two numbers to set, in a config that builds on this one or with --cfg-options:
#     _base_.custom_hooks[0].begin = 9        custom_hooks.0.begin=9         the epoch after which the net grows
#     _base_.param_scheduler[1].begin = 10    param_scheduler.1.begin=10     that after which the rate decays
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, by_epoch=True, end=1, convert_to_iter_based=True),
    dict(type='LinearLR', start_factor=1., end_factor=1e-2, by_epoch=True, begin=9, convert_to_iter_based=True),
]

custom_hooks = [dict(type='mmscalenet.DepthHook', mode='grow', begin=8)]

train_cfg = dict(by_epoch=True, max_epochs=12, val_interval=1)
val_cfg = dict()
test_cfg = dict()
