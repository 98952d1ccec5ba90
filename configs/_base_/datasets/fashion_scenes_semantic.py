# Written by tools/dataset_converters/fashion_scenes.py: maps of ten kinds of garments and seven backgrounds
fashion_scenes = dict(type='mmscalenet.FashionScenesSegDataset', data_root='data/fashion_scenes/')

train_dataloader = dict(
    batch_size=4,
    # Reading a scene takes about a hundredth of a training step on a CPU: workers would take cores from the training.
    # On a GPU set num_workers=4, persistent_workers=True.
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        **fashion_scenes,
        data_prefix=dict(img_path='images/train', seg_map_path='semantic/train'),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations'),
            dict(type='RandomResize', scale=(224, 224), ratio_range=(0.75, 1.5), keep_ratio=True),
            dict(type='RandomCrop', crop_size=(224, 224), cat_max_ratio=0.75),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackSegInputs'),
        ]))

val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        **fashion_scenes,
        data_prefix=dict(img_path='images/val', seg_map_path='semantic/val'),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=(224, 224), keep_ratio=True),
            # after Resize: predictions are scored at the original size
            dict(type='LoadAnnotations'),
            dict(type='PackSegInputs'),
        ]))
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])

test_dataloader = val_dataloader
test_evaluator = val_evaluator
