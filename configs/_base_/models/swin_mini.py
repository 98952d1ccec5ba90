# A Swin for 28 x 28 grey images: 7 x 7 patches of 4 x 4 pixels, padded to windows of 4 x 4, then one window.
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='SwinTransformer',
        arch=dict(embed_dims=32, depths=[2, 4], num_heads=[2, 4]),
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
        in_channels=64,
        init_cfg=None,  # suppress its default
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original')),
    init_cfg=[
        # a standard deviation of .02, as at 192 channels and more, is too small for so narrow a model: it learns slower
        dict(type='Xavier', layer='Linear', distribution='uniform'),
        dict(type='Constant', layer='LayerNorm', val=1., bias=0.),
    ])
