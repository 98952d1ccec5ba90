"""Annotation files and images as they come, through the pipelines of our configs and a loss step of expanded backbones.

Of broken files, those that the libraries name themselves are tested here.
"""
import json
from pathlib import Path

import cv2
import mmdet
import numpy as np
import pytest
import torch
from mmdet.datasets import CocoDataset
from mmdet.datasets.api_wrappers import COCO
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from pycocotools import mask as rle

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
SWIN = dict(scale=2, embed_dims=8, depths=(2, 2, 2, 2), num_heads=(1, 2, 2, 4), window_size=7, init_cfg=None)
SWIN_CHANNELS = [8, 16, 32, 64]
NAMES = ('cup', 'fork', 'knife')
# Odd sides, an image smaller than one window (of Swin's stage 1, 28 pixels; of DeiT here, 48), a narrow one, one that a
# step of training can use.
SIZES = [(61, 97), (20, 21), (33, 150), (96, 96)]


@pytest.fixture(autouse=True)
def readers_of_the_library(monkeypatch):
    """Not the one that our entry scripts put in their place, be they tested before."""
    monkeypatch.setattr(CocoDataset, 'COCOAPI', COCO)


def config(name: str, **model) -> Config:
    """A config of ours with changes to its model."""
    cfg = Config.fromfile(CONFIGS / name)
    cfg.merge_from_dict(dict(model=model) if model else {})
    return cfg


def step(model: BaseModel, loader) -> dict[str, torch.Tensor]:
    """A forward and a backward pass over the first batch."""
    data = model.data_preprocessor(next(iter(loader)), training=True)
    losses = model(**data, mode='loss')
    total, _ = model.parse_losses(losses)
    total.backward()
    assert torch.isfinite(total)
    gradients = [p.grad for p in model.backbone.parameters() if p.grad is not None]
    assert gradients and all(torch.isfinite(grad).all() for grad in gradients)
    assert any(grad.abs().sum() > 0 for grad in gradients)
    return losses


# --- COCO

def write_coco(root: Path, ids: list[int], kind: str = 'polygon', sizes: list[tuple[int, int]] = SIZES,
               empty: tuple[int, ...] = (), grey: bool = False) -> dict:
    """A COCO file with, in each image, one object per category and a crowd of the first."""
    root.mkdir(exist_ok=True)
    coco = dict(categories=[dict(id=i, name=name) for i, name in zip(ids, NAMES, strict=True)],
                images=[], annotations=[])
    rng = np.random.default_rng(0)
    for number, (height, width) in enumerate(sizes):
        image = rng.integers(0, 256, (height, width) if grey else (height, width, 3), dtype=np.uint8)
        cv2.imwrite(str(root / f'{number}.png'), image)
        coco['images'].append(dict(id=10 * number, file_name=f'{number}.png', height=height, width=width))
        if number in empty:
            continue
        for place, (category, crowd) in enumerate([(ids[0], 0), (ids[1], 0), (ids[2], 0), (ids[0], 1)]):
            # quarters, so that no two overlap
            x, y = (place % 2) * width // 2, (place // 2) * height // 2
            w, h = width // 2 - 1, height // 2 - 1
            polygon = [float(v) for v in (x, y, x + w, y, x + w, y + h, x, y + h)]
            mask = np.zeros((height, width), np.uint8, order='F')
            mask[y:y + h, x:x + w] = 1
            code = rle.encode(mask)
            form = dict(
                polygon=[polygon],
                rle=dict(size=code['size'], counts=code['counts'].decode()),
                uncompressed=uncompressed(mask))
            coco['annotations'].append(dict(
                id=len(coco['annotations']) + 1, image_id=10 * number, category_id=category, iscrowd=crowd,
                bbox=[x, y, w, h], area=w * h,
                segmentation=form['uncompressed' if crowd and kind == 'polygon' else kind]))  # as COCO's own files do
    (root / 'annotations.json').write_text(json.dumps(coco))
    return coco


def uncompressed(mask: np.ndarray) -> dict:
    flat = mask.flatten(order='F')
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *edges, flat.size]).tolist()
    return dict(size=list(mask.shape), counts=[0, *counts] if flat[0] else counts)


def coco_loader(root: Path, batch_size: int = 4, **dataset):
    """mmdet's own settings for COCO, at a tenth of the size."""
    init_default_scope('mmdet')
    path = Path(mmdet.__file__).parent / '.mim/configs/_base_/datasets/coco_instance.py'  # which our configs inherit
    cfg = Config.fromfile(path).train_dataloader
    for transform in cfg.dataset.pipeline:
        if transform.type == 'Resize':
            transform.scale = (133, 80)
    cfg.update(batch_size=batch_size, num_workers=0, persistent_workers=False,
               sampler=dict(type='DefaultSampler', shuffle=False), batch_sampler=None)
    cfg.dataset.update(data_root=str(root), ann_file='annotations.json', data_prefix=dict(img=''),
                       metainfo=dict(classes=NAMES), filter_cfg=None)
    cfg.dataset.update(dataset)
    return Runner.build_dataloader(cfg)


@pytest.fixture(scope='module', params=['swin', 'deit'])
def mask_rcnn(request):
    """Swin with FPN; DeiT with windows, of which images have several, and the simple feature pyramid."""
    init_default_scope('mmdet')
    parts = dict(
        swin=dict(backbone=SWIN, neck=dict(in_channels=SWIN_CHANNELS, out_channels=8)),
        deit=dict(
            backbone=dict(
                arch=dict(_delete_=True, embed_dims=24, num_layers=3, num_heads=2, feedforward_channels=48),
                window_size=3, global_positions=2, init_cfg=None),
            neck=dict(in_channels=[24], out_channels=8)))
    cfg = config(
        f'mask_rcnn_scalenet_{request.param}.py',
        **parts[request.param],
        rpn_head=dict(in_channels=8, feat_channels=8),
        roi_head=dict(
            bbox_roi_extractor=dict(out_channels=8), mask_roi_extractor=dict(out_channels=8),
            bbox_head=dict(in_channels=8, fc_out_channels=16, num_classes=len(NAMES)),
            mask_head=dict(in_channels=8, conv_out_channels=8, num_convs=1, num_classes=len(NAMES))),
        train_cfg=dict(rpn_proposal=dict(nms_pre=50, max_per_img=20), rcnn=dict(sampler=dict(num=16))),
        test_cfg=dict(rpn=dict(nms_pre=50, max_per_img=20)))
    model = MODELS.build(cfg.model)
    model.init_weights()
    return model


@pytest.mark.parametrize('kind', ['polygon', 'rle', 'uncompressed'])
@pytest.mark.parametrize('ids', [[0, 1, 2], [3, 17, 90]], ids=['from 0', 'gaps'])
def test_coco(tmp_path, mask_rcnn, kind, ids):
    write_coco(tmp_path, ids, kind)
    loader = coco_loader(tmp_path)
    for index in range(len(SIZES)):
        info = loader.dataset.get_data_info(index)
        assert [inst['bbox_label'] for inst in info['instances']] == [0, 1, 2, 0]
        sample = loader.dataset[index]['data_samples']
        assert sample.gt_instances.labels.tolist() == [0, 1, 2] and sample.ignored_instances.labels.tolist() == [0]
        areas = sample.gt_instances.masks.areas / np.prod(sample.img_shape)
        assert np.allclose(areas, np.prod([side // 2 - 1 for side in SIZES[index]]) / np.prod(SIZES[index]), atol=0.06)
    losses = step(mask_rcnn, loader)
    assert losses['loss_mask'] > 0 and losses['loss_bbox'] > 0


def test_masks_do_not_depend_on_how_they_are_written(tmp_path):
    masks = []
    for kind in ('rle', 'uncompressed'):
        write_coco(tmp_path, [1, 2, 3], kind)
        dataset = coco_loader(tmp_path).dataset
        masks.append([dataset[i]['data_samples'].gt_instances.masks.areas.tolist() for i in range(len(SIZES))])
    assert masks[0] == masks[1]


def test_images_without_objects(tmp_path, mask_rcnn):
    write_coco(tmp_path, [1, 2, 3], empty=(0, 2))
    assert len(coco_loader(tmp_path, filter_cfg=dict(filter_empty_gt=True)).dataset) == 2
    loader = coco_loader(tmp_path)
    assert len(loader.dataset) == 4 and not len(loader.dataset[0]['data_samples'].gt_instances)
    step(mask_rcnn, loader)


def test_a_batch_without_any_object(tmp_path, mask_rcnn):
    write_coco(tmp_path, [1, 2, 3], empty=(0, 1, 2, 3))
    losses = step(mask_rcnn, coco_loader(tmp_path))
    assert losses['loss_mask'] == 0


def test_grey_images(tmp_path, mask_rcnn):
    write_coco(tmp_path, [1, 2, 3], grey=True)
    loader = coco_loader(tmp_path)
    assert loader.dataset[0]['inputs'].shape[0] == 3
    step(mask_rcnn, loader)


def test_predictions_have_the_size_of_the_original(tmp_path, mask_rcnn):
    write_coco(tmp_path, [1, 2, 3])
    loader = coco_loader(tmp_path)
    mask_rcnn.eval()
    mask_rcnn.test_cfg.rcnn.score_thr = 0.
    try:
        with torch.no_grad():
            results = mask_rcnn.test_step(next(iter(loader)))
    finally:
        mask_rcnn.train()
    for size, result in zip(SIZES, results, strict=True):
        assert result.pred_instances.masks.shape[1:] == size and len(result.pred_instances)
        assert result.pred_instances.bboxes[:, 2].max() <= size[1]


def test_without_resizing_an_image_may_be_smaller_than_a_window(tmp_path, mask_rcnn):
    write_coco(tmp_path, [1, 2, 3], sizes=[(20, 21)])
    loader = coco_loader(tmp_path, batch_size=1)
    del loader.dataset.pipeline.transforms[2]  # Resize
    assert loader.dataset[0]['inputs'].shape == (3, 20, 21)
    step(mask_rcnn, loader)


def test_batches_may_have_odd_sides(tmp_path, mask_rcnn, monkeypatch):
    write_coco(tmp_path, [1, 2, 3])
    monkeypatch.setattr(mask_rcnn.data_preprocessor, 'pad_size_divisor', 1)
    loader = coco_loader(tmp_path)
    data = mask_rcnn.data_preprocessor(next(iter(loader)), training=True)
    assert [side % 2 for side in data['inputs'].shape[2:]] == [0, 1]
    assert len({sample.img_shape for sample in data['data_samples']}) == len(SIZES)
    step(mask_rcnn, loader)


def break_coco(root: Path, **changes) -> None:
    """Change the second annotation; None removes a key."""
    coco = write_coco(root, [1, 2, 3])
    annotation = coco['annotations'][1]
    annotation.update(changes)
    coco['annotations'][1] = {key: value for key, value in annotation.items() if value is not None}
    (root / 'annotations.json').write_text(json.dumps(coco))


@pytest.mark.parametrize('changes', [dict(category_id=99), dict(area=0), dict(bbox=[500, 500, 5, 5])])
def test_an_impossible_object_is_left_out(tmp_path, changes):
    break_coco(tmp_path, **changes)
    assert [i['bbox_label'] for i in coco_loader(tmp_path).dataset.get_data_info(0)['instances']] == [0, 2, 0]


def test_a_degenerate_polygon_is_ignored(tmp_path, mask_rcnn):
    break_coco(tmp_path, segmentation=[[1., 1., 2., 2.]])
    loader = coco_loader(tmp_path)
    assert loader.dataset[0]['data_samples'].gt_instances.labels.tolist() == [0, 2]
    step(mask_rcnn, loader)


# --- ADE20K

def write_ade(root: Path, sizes: list[tuple[int, int]], grey: bool = False, values: range = range(151)) -> None:
    rng = np.random.default_rng(0)
    for folder in ('images', 'annotations'):
        (root / folder / 'training').mkdir(parents=True)
    for number, (height, width) in enumerate(sizes):
        image = rng.integers(0, 256, (height, width) if grey else (height, width, 3), dtype=np.uint8)
        cv2.imwrite(str(root / f'images/training/{number}.jpg'), image)
        cv2.imwrite(str(root / f'annotations/training/{number}.png'),
                    rng.choice(values, (height, width)).astype(np.uint8))


def ade_loader(root: Path, batch_size: int = 4, crop_size: tuple[int, int] = (64, 64)):
    """Our settings for ADE20K, at an eighth of the size."""
    init_default_scope('mmseg')
    cfg = config('_base_/datasets/ade20k.py').train_dataloader
    for transform in cfg.dataset.pipeline:
        transform.update(dict(RandomResize=dict(scale=(256, 64)), RandomCrop=dict(crop_size=crop_size)).get(
            transform.type, {}))
    cfg.update(batch_size=batch_size, num_workers=0, persistent_workers=False,
               sampler=dict(type='DefaultSampler', shuffle=False))
    cfg.dataset.data_root = str(root)
    return Runner.build_dataloader(cfg)


@pytest.fixture(scope='module', params=['swin', 'deit'])
def upernet(request):
    """Swin; DeiT with the multi-level neck."""
    init_default_scope('mmseg')
    parts, channels = dict(
        swin=(dict(backbone=SWIN), SWIN_CHANNELS),
        deit=(dict(backbone=dict(img_size=64, embed_dims=24, num_layers=4, num_heads=2, mlp_ratio=2,
                                 out_indices=(0, 1, 2, 3), init_cfg=None),
                   neck=dict(in_channels=[24] * 4, out_channels=8)), [8] * 4))[request.param]
    norm = dict(type='BN', requires_grad=True)
    cfg = config(
        f'upernet_scalenet_{request.param}.py',
        **parts,
        data_preprocessor=dict(size=(64, 64)),
        decode_head=dict(in_channels=channels, channels=8, norm_cfg=norm),
        auxiliary_head=dict(in_channels=channels[2], channels=8, norm_cfg=norm))
    model = MODELS.build(cfg.model)
    model.init_weights()
    return model


@pytest.mark.parametrize('grey', [False, True], ids=['colour', 'grey'])
def test_ade20k(tmp_path, upernet, grey):
    write_ade(tmp_path, SIZES, grey)
    loader = ade_loader(tmp_path)
    assert loader.dataset.reduce_zero_label
    losses = step(upernet, loader)
    assert {'decode.loss_ce', 'aux.loss_ce'} <= set(losses)


def test_crops_may_have_odd_sides(tmp_path, upernet, monkeypatch):
    """Images that are smaller than the crop are padded to its size."""
    write_ade(tmp_path, SIZES)
    monkeypatch.setattr(upernet.data_preprocessor, 'size', (61, 75))
    loader = ade_loader(tmp_path, crop_size=(61, 75))
    np.random.seed(0)  # images are resized at random, now and then none of them is smaller
    data = next(iter(loader))
    assert len({tuple(image.shape) for image in data['inputs']}) > 1
    assert upernet.data_preprocessor(data, training=True)['inputs'].shape[2:] == (61, 75)
    step(upernet, loader)


def test_ade20ks_zero_is_ignored_and_one_becomes_zero(tmp_path):
    write_ade(tmp_path, [(8, 8)])
    values = np.arange(64, dtype=np.uint8).reshape(8, 8) + 87  # 87 to 150
    values[0, 0] = 0
    values[0, 1] = 1
    cv2.imwrite(str(tmp_path / 'annotations/training/0.png'), values)
    dataset = ade_loader(tmp_path).dataset
    dataset.pipeline.transforms[2:-1] = []  # neither resize nor crop nor mirror
    found = dataset[0]['data_samples'].gt_sem_seg.data[0].numpy()
    assert found[0, 0] == 255 and found[0, 1] == 0
    assert np.array_equal(found.ravel()[2:], values.ravel()[2:] - 1)


def test_a_map_without_any_label(tmp_path, upernet):
    write_ade(tmp_path, SIZES, values=range(1))
    data = upernet.data_preprocessor(next(iter(ade_loader(tmp_path))), training=True)
    loss, _ = upernet.parse_losses(upernet(**data, mode='loss'))
    assert loss == 0


@pytest.mark.parametrize('kept', [3, 2], ids=['resized', 'as they are'])
def test_maps_of_predictions_have_the_size_of_the_original(tmp_path, upernet, kept):
    write_ade(tmp_path, SIZES)
    loader = ade_loader(tmp_path, batch_size=1)
    loader.dataset.pipeline.transforms[kept:-1] = []
    upernet.eval()
    try:
        with torch.no_grad():
            results = [upernet.test_step(data)[0] for data in loader]
    finally:
        upernet.train()
    assert [tuple(result.pred_sem_seg.shape) for result in results] == SIZES


# --- broken files

def test_a_damaged_image_is_named(tmp_path):
    write_coco(tmp_path, [1, 2, 3])
    (tmp_path / '0.png').write_bytes(b'no image')
    with pytest.raises(AssertionError, match=r'failed to load image: .*0\.png'):
        coco_loader(tmp_path).dataset[0]


def test_a_missing_image_is_named(tmp_path):
    write_coco(tmp_path, [1, 2, 3])
    (tmp_path / '0.png').unlink()
    with pytest.raises(FileNotFoundError, match=r'0\.png'):
        coco_loader(tmp_path).dataset[0]


def test_repeated_annotation_ids_are_refused_with_the_file(tmp_path):
    break_coco(tmp_path, id=1)
    with pytest.raises(AssertionError, match=r"annotations\.json' are not unique"):
        coco_loader(tmp_path)
