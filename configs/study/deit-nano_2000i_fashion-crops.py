# What the detectors and segmentors of the study start from: 4 blocks of 128 channels, trained on single garments before
# photographs.
_base_ = './deit-single_32k_fashion-crops.py'

model = dict(
    backbone=dict(arch=dict(embed_dims=128, num_layers=4, num_heads=4, feedforward_channels=512)),
    head=dict(in_channels=128))

optim_wrapper = dict(optimizer=dict(lr=1e-3))

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, by_epoch=False, begin=0, end=200),
    dict(type='CosineAnnealingLR', eta_min=1e-6, by_epoch=False, begin=200, end=2000),
]

train_cfg = dict(max_iters=2000, val_interval=500)

default_hooks = dict(checkpoint=dict(interval=500))
