# Warmup, stable, decay, in iterations. max_iters is the budget, from which tools/study sets the schedule of each run.
_base_ = '../../_base_/default_runtime.py'

optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.05),
    paramwise_cfg=dict(
        norm_decay_mult=0.,
        bias_decay_mult=0.,
        custom_keys={
            '.cls_token': dict(decay_mult=0.),
            '.pos_embed': dict(decay_mult=0.),
            '.relative_position_bias_table': dict(decay_mult=0.),
        }),
    clip_grad=dict(max_norm=5.))

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, by_epoch=False, begin=0, end=400),
    dict(type='LinearLR', start_factor=1., end_factor=1e-3, by_epoch=False, begin=6800, end=8000),
]

train_cfg = dict(by_epoch=False, max_iters=8000, val_interval=800)
val_cfg = dict()
test_cfg = dict()

default_hooks = dict(
    logger=dict(interval=100),
    checkpoint=dict(by_epoch=False, interval=400, max_keep_ckpts=1))
custom_hooks = [dict(type='mmscalenet.CurveHook')]
log_processor = dict(by_epoch=False)
randomness = dict(seed=0)
