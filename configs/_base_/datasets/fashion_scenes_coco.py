# Written by tools/dataset_converters/fashion_scenes.py: boxes and masks of ten kinds of garments
data_root = 'data/fashion_scenes/'
fashion_scenes = dict(type='mmscalenet.FashionScenesDataset', data_root=data_root)

train_dataloader = dict(
    batch_size=2,
    # Reading a scene takes about a hundredth of a training step on a CPU: workers would take cores from the training.
    # On a GPU set num_workers=4, persistent_workers=True.
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=True),
    batch_sampler=dict(type='AspectRatioBatchSampler'),
    dataset=dict(
        **fashion_scenes,
        ann_file='annotations/instances_train.json',
        data_prefix=dict(img='images/train/'),
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
            dict(type='Resize', scale=(224, 224), keep_ratio=True),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackDetInputs'),
        ]))

val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    persistent_workers=False,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        **fashion_scenes,
        ann_file='annotations/instances_val.json',
        data_prefix=dict(img='images/val/'),
        test_mode=True,
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=(224, 224), keep_ratio=True),
            dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
            dict(
                type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
        ]))
val_evaluator = dict(
    type='CocoMetric', ann_file=f'{data_root}annotations/instances_val.json', metric=['bbox', 'segm'])

test_dataloader = val_dataloader
test_evaluator = val_evaluator
