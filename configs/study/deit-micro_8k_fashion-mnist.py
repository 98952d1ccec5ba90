# The base of the study: a DeiT of 6 blocks for 28 x 28 grey images, 16 patches of 7 x 7. Two are its middle third.
_base_ = ['./_base_/fashion_mnist.py', './_base_/schedule.py']

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='mmscalenet.ScaleNetDeiT',
        scale=1,
        adapter=None,
        arch=dict(embed_dims=48, num_layers=6, num_heads=3, feedforward_channels=192),
        img_size=28,
        patch_size=7,
        in_channels=1),
    neck=None,
    head=dict(
        type='VisionTransformerClsHead',
        num_classes=10,
        in_channels=48,
        # no smoothing: the loss that is trained is the one that is reported of the test set
        loss=dict(type='CrossEntropyLoss')),
    init_cfg=[
        # a standard deviation of .02, as at 192 channels and more, is too small for so narrow a model: it learns slower
        dict(type='Xavier', layer='Linear', distribution='uniform'),
        dict(type='Constant', layer='LayerNorm', val=1., bias=0.),
    ])
