"""Fixtures: tiny data sets on disk, and a config of each task library on them."""
import json
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmpretrain.models import VisionTransformer
from PIL import Image
from torch import Tensor

SIDE = 32


def save(array: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def scene(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, int, list[int]]:
    """A dark image with a bright rectangle of one of two kinds: image, semantic map, kind, box (x, y, w, h)."""
    image = rng.integers(0, 60, (64, 64, 3), dtype=np.uint8)
    x, y, kind = *rng.integers(4, 24, 2), rng.integers(2)
    image[y:y + 32, x:x + 32, kind] += 180
    label = np.zeros((64, 64), np.uint8)
    label[y:y + 32, x:x + 32] = kind + 1
    return image, label, int(kind), [int(x), int(y), 32, 32]


@pytest.fixture(scope='session')
def tiny_data(tmp_path_factory) -> Path:
    """Folders ``cls`` (one folder per class), ``det`` (COCO json) and ``seg`` (images and maps)."""
    root, rng = tmp_path_factory.mktemp('tiny'), np.random.default_rng(0)
    for i in range(8):
        image = rng.integers(0, 120, (SIDE, SIDE, 3), dtype=np.uint8)
        image[..., i % 2] += 120
        save(image, root / f'cls/class{i % 2}/{i}.png')
    coco = dict(images=[], annotations=[], categories=[dict(id=1, name='red'), dict(id=2, name='green')])
    for i in range(4):
        image, label, kind, (x, y, w, h) = scene(rng)
        save(image, root / f'det/images/{i}.png')
        save(image, root / f'seg/images/{i}.png')
        save(label, root / f'seg/maps/{i}.png')
        coco['images'].append(dict(id=i, file_name=f'{i}.png', width=64, height=64))
        coco['annotations'].append(dict(
            id=i + 1, image_id=i, category_id=kind + 1, bbox=[x, y, w, h], area=w * h, iscrowd=0,
            segmentation=[[x, y, x + w, y, x + w, y + h, x, y + h]]))
    (root / 'det/annotations.json').write_text(json.dumps(coco))
    return root


def common(scope: str, **fields) -> dict:
    return dict(
        default_scope=scope,
        custom_imports=dict(imports=['mmscalenet'], allow_failed_imports=False),
        env_cfg=dict(mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0), dist_cfg=dict(backend='nccl')),
        randomness=dict(seed=0),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1)),
        optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01, momentum=0.9)),
        val_cfg=dict(),
        test_cfg=dict(),
    ) | fields


def loader(dataset: dict, batch_size: int, shuffle: bool = False) -> dict:
    return dict(batch_size=batch_size, num_workers=0, persistent_workers=False, dataset=dataset,
                sampler=dict(type='DefaultSampler', shuffle=shuffle))


def loaders(train: dict, val: dict, batch_size: int) -> dict:
    return dict(train_dataloader=loader(train, batch_size, shuffle=True), val_dataloader=loader(val, batch_size),
                test_dataloader=loader(val, batch_size))


SWIN = dict(type='mmscalenet.ScaleNetSwin', scale=2, embed_dims=8, depths=[2, 2, 2, 2], num_heads=[1, 1, 2, 2],
            window_size=4, drop_path_rate=0.)
RGB = dict(mean=[127.] * 3, std=[60.] * 3)


@pytest.fixture
def cls_fields(tiny_data) -> dict:
    """mmpretrain: a small DeiT on 8 images, batch 4."""
    dataset = dict(type='CustomDataset', data_root=str(tiny_data / 'cls'),
                   pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')])
    return common(
        'mmpretrain',
        model=dict(
            type='ImageClassifier',
            data_preprocessor=dict(num_classes=2, to_rgb=True, **RGB),
            backbone=dict(
                type='mmscalenet.ScaleNetDeiT', scale=2, img_size=SIDE, patch_size=8,
                arch=dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)),
            head=dict(type='VisionTransformerClsHead', num_classes=2, in_channels=16,
                      loss=dict(type='CrossEntropyLoss', loss_weight=1.0))),
        train_cfg=dict(by_epoch=True, max_epochs=3),
        val_evaluator=dict(type='Accuracy', topk=(1, )),
        test_evaluator=dict(type='Accuracy', topk=(1, )),
        auto_scale_lr=dict(base_batch_size=16),
        **loaders(dataset, dataset, 4))


@pytest.fixture
def cls_base(cls_fields) -> dict[str, Tensor]:
    """Weights of the backbone of ``cls_fields``, not expanded."""
    options = {key: value for key, value in cls_fields['model']['backbone'].items() if key not in ('type', 'scale')}
    return VisionTransformer(**options).state_dict()


@pytest.fixture
def det_fields(tiny_data) -> dict:
    """mmdet: Mask R-CNN on 4 images, batch 2."""
    load = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True, with_mask=True)]
    meta = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip', 'flip_direction')
    dataset = dict(type='CocoDataset', data_root=str(tiny_data / 'det'), ann_file='annotations.json',
                   data_prefix=dict(img='images/'), metainfo=dict(classes=('red', 'green')))
    resize = dict(type='Resize', scale=(64, 64), keep_ratio=True)
    evaluator = dict(type='CocoMetric', ann_file=str(tiny_data / 'det/annotations.json'), metric=['bbox', 'segm'])
    heads = dict(fc_out_channels=16, num_classes=2)
    return common(
        'mmdet',
        _base_='mmdet::_base_/models/mask-rcnn_r50_fpn.py',
        model=dict(
            data_preprocessor=dict(bgr_to_rgb=True, **RGB),
            backbone=dict(_delete_=True, out_indices=(0, 1, 2, 3), **SWIN),
            neck=dict(in_channels=[8, 16, 32, 64], out_channels=16),
            rpn_head=dict(in_channels=16, feat_channels=16),
            roi_head=dict(
                bbox_roi_extractor=dict(out_channels=16), bbox_head=dict(in_channels=16, **heads),
                mask_roi_extractor=dict(out_channels=16),
                mask_head=dict(in_channels=16, conv_out_channels=8, num_convs=1, num_classes=2))),
        visualizer=dict(type='DetLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')], name='visualizer'),
        train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=1),
        val_cfg=dict(type='ValLoop'),
        test_cfg=dict(type='TestLoop'),
        val_evaluator=evaluator,
        test_evaluator=evaluator,
        tta_model=dict(type='DetTTAModel',
                       tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=10)),
        tta_pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='TestTimeAug', transforms=[
                [resize], [dict(type='RandomFlip', prob=1.), dict(type='RandomFlip', prob=0.)],
                [dict(type='PackDetInputs', meta_keys=meta)]])
        ],
        **loaders(dict(dataset, pipeline=[*load, resize, dict(type='PackDetInputs')]),
                  dict(dataset, test_mode=True, pipeline=[load[0], resize, load[1],
                                                          dict(type='PackDetInputs', meta_keys=meta[:5])]), 2))


@pytest.fixture
def seg_fields(tiny_data) -> dict:
    """mmseg: Swin with an FCN head on 4 images, batch 2, counted in iterations."""
    load = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]
    flips = [dict(type='RandomFlip', prob=0., direction='horizontal'),
             dict(type='RandomFlip', prob=1., direction='horizontal')]
    dataset = dict(
        type='BaseSegDataset', data_root=str(tiny_data / 'seg'), img_suffix='.png', seg_map_suffix='.png',
        data_prefix=dict(img_path='images', seg_map_path='maps'), pipeline=[*load, dict(type='PackSegInputs')],
        metainfo=dict(classes=('none', 'red', 'green'), palette=[[0, 0, 0], [255, 0, 0], [0, 255, 0]]))
    return common(
        'mmseg',
        model=dict(
            type='EncoderDecoder',
            data_preprocessor=dict(type='SegDataPreProcessor', bgr_to_rgb=True, size=(64, 64), pad_val=0,
                                   seg_pad_val=255, **RGB),
            backbone=dict(out_indices=(0, 1, 2, 3), **SWIN),
            decode_head=dict(type='FCNHead', in_channels=64, in_index=3, channels=8, num_convs=1, num_classes=3,
                             norm_cfg=dict(type='BN'), loss_decode=dict(type='CrossEntropyLoss')),
            train_cfg=dict(),
            test_cfg=dict(mode='whole')),
        visualizer=dict(type='SegLocalVisualizer', name='visualizer'),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=2, val_interval=2),
        val_cfg=dict(type='ValLoop'),
        test_cfg=dict(type='TestLoop'),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1),
                           checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2)),
        val_evaluator=dict(type='IoUMetric', iou_metrics=['mIoU']),
        test_evaluator=dict(type='IoUMetric', iou_metrics=['mIoU']),
        tta_model=dict(type='SegTTAModel'),
        tta_pipeline=[load[0], dict(type='TestTimeAug', transforms=[flips, [load[1]], [dict(type='PackSegInputs')]])],
        **loaders(dataset, dataset, 2))


@pytest.fixture
def write_config(tmp_path):
    """Write fields as a config file named ``name`` and return its path."""

    def write(fields: dict, name: str = 'tiny') -> Path:
        path = tmp_path / f'{name}.py'
        path.write_text('\n'.join(f'{key} = {value!r}' for key, value in fields.items()))
        assert Config.fromfile(path)
        return path

    return write
