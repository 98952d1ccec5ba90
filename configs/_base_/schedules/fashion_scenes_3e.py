# For small models from a small pretrained backbone on 12,000 scenes in batches of two.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
    constructor='mmscalenet.LayerDecayOptimWrapperConstructor',
    clip_grad=dict(max_norm=5.))

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, by_epoch=False, end=200),
    dict(type='CosineAnnealingLR', eta_min=1e-6, by_epoch=True, convert_to_iter_based=True),
]

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=3, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

auto_scale_lr = dict(enable=False, base_batch_size=2)
