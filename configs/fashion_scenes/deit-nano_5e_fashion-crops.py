# The backbone of the DeiT detectors and segmentors of this folder, pretrained on single garments before photographs.
_base_ = [
    '../_base_/datasets/fashion_crops.py',
    '../_base_/schedules/fashion_crops_5e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='VisionTransformer',
        arch=dict(embed_dims=128, num_layers=6, num_heads=4, feedforward_channels=512),
        img_size=112,  # 7 x 7 patches: one window of the detector
        patch_size=16),
    neck=None,
    head=dict(
        type='VisionTransformerClsHead',
        num_classes=10,
        in_channels=128,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original')),
    init_cfg=[
        # a standard deviation of .02, as at 192 channels and more, is too small for so narrow a model: it learns slower
        dict(type='Xavier', layer='Linear', distribution='uniform'),
        dict(type='Constant', layer='LayerNorm', val=1., bias=0.),
    ])

default_hooks = dict(checkpoint=dict(max_keep_ckpts=1))
train_dataloader = dict(
    dataset=dict(pipeline=[
        dict(type='mmscalenet.PasteOnPhotograph', size=112),
        dict(type='PackInputs'),
    ]))
val_dataloader = dict(
    dataset=dict(pipeline=[
        dict(type='mmscalenet.PasteOnPhotograph', size=112, split='val'),
        dict(type='PackInputs'),
    ]))
test_dataloader = val_dataloader
randomness = dict(seed=0)
