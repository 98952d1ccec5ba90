# The base of the study's segmentors: 12,000 scenes of 112 x 112, four a step, so two epochs.
_base_ = [
    '../_base_/models/upernet_nano.py', '../_base_/datasets/fashion_scenes_semantic.py',
    '../_base_/segmentation_runtime.py', './_base_/dense_schedule.py'
]

# what tools/train.py leaves of the pretraining, whose 5 x 5 position embeddings are resized
checkpoint = 'work_dirs/deit-nano_2000i_fashion-crops/iter_2000.pth'

model = dict(
    data_preprocessor=dict(size=(112, 112)),
    backbone=dict(
        type='mmscalenet.ScaleNetDeiT',
        scale=1,
        adapter=None,
        img_size=(112, 112),
        patch_size=8,
        embed_dims=128,
        num_layers=4,
        num_heads=4,
        patch_bias=True,
        out_indices=(0, 1, 2, 3),
        final_norm=True,
        norm_cfg=dict(type='LN', eps=1e-6),
        init_cfg=dict(type='Pretrained', checkpoint=checkpoint)),
    neck=dict(type='MultiLevelNeck', in_channels=[128] * 4, out_channels=64, scales=[2, 1, 0.5, 0.25]),
    decode_head=dict(in_channels=[64] * 4),
    auxiliary_head=dict(in_channels=64, in_index=3))

data_root = 'data/study_scenes/'
train_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations'),
            dict(type='RandomResize', scale=(112, 112), ratio_range=(0.75, 1.5), keep_ratio=True),
            dict(type='RandomCrop', crop_size=(112, 112), cat_max_ratio=0.75),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackSegInputs'),
        ]))
val_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations'),
            dict(type='PackSegInputs'),
        ]))
test_dataloader = val_dataloader

default_hooks = dict(logger=dict(interval=100), checkpoint=dict(by_epoch=False, interval=300, max_keep_ckpts=1))
