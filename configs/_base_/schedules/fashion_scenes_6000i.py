# 6,000 iterations of four images, for small models from a small pretrained backbone.
_base_ = './fashion_scenes_adamw.py'

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, by_epoch=False, end=100),
    dict(type='PolyLR', eta_min=1e-6, power=1., by_epoch=False, begin=100, end=6000),
]

train_cfg = dict(type='IterBasedTrainLoop', max_iters=6000, val_interval=2000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

auto_scale_lr = dict(enable=False, base_batch_size=4)
