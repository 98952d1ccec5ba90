# For small models from a small pretrained backbone on 12,000 scenes in batches of two.
_base_ = './fashion_scenes_adamw.py'

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, by_epoch=False, end=200),
    dict(type='CosineAnnealingLR', eta_min=1e-6, by_epoch=True, convert_to_iter_based=True),
]

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=3, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

auto_scale_lr = dict(enable=False, base_batch_size=2)
