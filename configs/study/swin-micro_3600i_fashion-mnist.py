# The base of the study: a Swin of 2 + 6 blocks for 28 x 28 grey images. 7 x 7 patches of 4 x 4 pixels are padded to
# windows of 4 x 4; the second stage is one window.
_base_ = ['./_base_/fashion_mnist.py', './_base_/schedule.py']

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='mmscalenet.ScaleNetSwin',
        scale=1,
        adapter=None,
        arch=dict(embed_dims=24, depths=[2, 6], num_heads=[2, 4]),
        img_size=28,
        patch_size=4,
        in_channels=1,
        window_size=4,
        out_indices=(1, ),
        pad_small_map=True),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=48,
        init_cfg=None,  # suppress its default
        # no smoothing: the loss that is trained is the one that is reported of the test set
        loss=dict(type='CrossEntropyLoss')),
    init_cfg=[
        # a standard deviation of .02, as at 192 channels and more, is too small for so narrow a model: it learns slower
        dict(type='Xavier', layer='Linear', distribution='uniform'),
        dict(type='Constant', layer='LayerNorm', val=1., bias=0.),
    ])

optim_wrapper = dict(optimizer=dict(lr=4e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, by_epoch=False, begin=0, end=180),
    dict(type='LinearLR', start_factor=1., end_factor=1e-3, by_epoch=False, begin=3060, end=3600),
]
train_cfg = dict(max_iters=3600, val_interval=360)
default_hooks = dict(checkpoint=dict(interval=180))
