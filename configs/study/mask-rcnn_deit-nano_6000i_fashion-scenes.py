# The base of the study's detectors: 12,000 scenes of 112 x 112, two a step, so one epoch.
_base_ = [
    '../_base_/models/mask_rcnn_nano.py', '../_base_/datasets/fashion_scenes_coco.py', './_base_/dense_schedule.py',
    'mmdet::_base_/default_runtime.py'
]

custom_imports = dict(imports=['mmscalenet'], allow_failed_imports=False)

# what tools/train.py leaves of the pretraining, whose 5 x 5 position embeddings are resized
checkpoint = 'work_dirs/deit-nano_2000i_fashion-crops/iter_2000.pth'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmscalenet.ScaleNetDeiT',
        scale=1,
        adapter=None,
        arch=dict(embed_dims=128, num_layers=4, num_heads=4, feedforward_channels=512),
        img_size=112,
        patch_size=8,
        with_cls_token=False,
        out_type='featmap',
        init_cfg=dict(type='Pretrained', checkpoint=checkpoint)),
    neck=dict(_delete_=True, type='mmscalenet.SimpleFeaturePyramid', in_channels=[128], out_channels=64),
    # of patches of 8 the pyramid's maps have half of the strides that mmdet's heads expect
    rpn_head=dict(anchor_generator=dict(strides=[2, 4, 8, 16, 32])),
    roi_head=dict(
        bbox_roi_extractor=dict(featmap_strides=[2, 4, 8, 16], finest_scale=14),
        mask_roi_extractor=dict(featmap_strides=[2, 4, 8, 16])))

data_root = 'data/study_scenes/'
train_dataloader = dict(
    batch_sampler=None,
    sampler=dict(_delete_=True, type='InfiniteSampler', shuffle=True),
    dataset=dict(
        data_root=data_root,
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackDetInputs'),
        ]))
val_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=(112, 112), keep_ratio=True),
            dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
            dict(
                type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
        ]))
val_evaluator = dict(ann_file=f'{data_root}annotations/instances_val.json')
test_dataloader = val_dataloader
test_evaluator = val_evaluator

default_hooks = dict(logger=dict(interval=100), checkpoint=dict(by_epoch=False, interval=300, max_keep_ckpts=1))
log_processor = dict(by_epoch=False)
