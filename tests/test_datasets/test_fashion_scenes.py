"""Fashion scenes: the cut-outs, the composing, what is written, and that the libraries read it."""
import hashlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmdet.evaluation import CocoMetric
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from pycocotools.coco import COCO

from mmscalenet.datasets.backgrounds import LABELLED, UNLABELLED, Backgrounds
from mmscalenet.datasets.classes import GARMENTS, STUFF
from mmscalenet.datasets.garments import MARGIN, Garments, cut_out, garment_mask, read_idx
from mmscalenet.datasets.scenes import MIN_PIXELS, MIN_VISIBLE
from mmscalenet.datasets.showing import draw_scenes
from mmscalenet.datasets.writing import PARTS, scene_at, write_fashion_scenes

ROOT = Path(__file__).parents[2]
REAL = ROOT / 'data/fashion_mnist'
TOOL = ROOT / 'tools/dataset_converters/fashion_scenes.py'
COUNTS = dict(train=8, val=4)
SIZE = 128
SHIRT, BAG = GARMENTS.index('shirt'), GARMENTS.index('bag')


def write_idx(path: Path, values: np.ndarray) -> None:
    path.write_bytes(bytes([0, 0, 8, values.ndim]) + np.array(values.shape, '>u4').tobytes() + values.tobytes())


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    """Fashion-MNIST, or a few drawn garments where it is not to be had."""
    if REAL.is_dir():
        return REAL
    folder = tmp_path_factory.mktemp('idx')
    rng = np.random.default_rng(0)
    for part in PARTS.values():
        images = np.zeros((40, 28, 28), np.uint8)
        for index, image in enumerate(images):
            cv2.ellipse(image, (14, 14), (9 + index % 5, 9 + index // 9), 0, 0, 360, int(rng.integers(80, 256)), -1)
        write_idx(folder / f'{part}-images-idx3-ubyte', images)
        write_idx(folder / f'{part}-labels-idx1-ubyte', np.arange(40, dtype=np.uint8) % 10)
    return folder


@pytest.fixture(scope='module')
def scenes(source, tmp_path_factory):
    return write_fashion_scenes(tmp_path_factory.mktemp('data') / 'scenes', source, **COUNTS, size=SIZE, seed=3)


@pytest.fixture(scope='module', params=PARTS)
def split(request):
    return request.param


@pytest.fixture(scope='module')
def coco(scenes, split):
    return COCO(scenes / f'annotations/instances_{split}.json')


def digest(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob('*')) if path.is_file()}


def config(task: str, root: Path) -> Config:
    """The dataset base config for scenes that lie in ``root``, without mirroring and in their own size."""
    cfg = Config.fromfile(ROOT / f'configs/_base_/datasets/fashion_scenes_{task}.py')
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.data_root = str(root)
        for transform in loader.dataset.pipeline:
            transform.update({'Resize': dict(scale=(SIZE, SIZE)), 'RandomFlip': dict(prob=0.)}.get(transform.type, {}))
    return cfg


# --- cut-outs

def square() -> np.ndarray:
    image = np.zeros((28, 28), np.uint8)
    image[5:20, 5:20] = 200
    return image


def test_ground_and_specks_are_not_cloth():
    image = square()
    image[0, :] = 10  # noise of the ground
    image[24, 10:15] = 90  # five pixels
    image[24, 18:24] = 90  # six pixels
    image[19, 19] = 11
    mask = garment_mask(image, SHIRT)
    assert not mask[0].any() and not mask[24, 10:15].any()
    assert mask[24, 18:24].all() and mask[5:20, 5:20].all() and mask.sum() == 225 + 6


@pytest.mark.parametrize('label, side, filled', [(SHIRT, 2, True), (SHIRT, 6, True), (BAG, 2, True), (BAG, 3, False)])
def test_holes(label, side, filled):
    image = square()
    image[8:8 + side, 8:8 + side] = 0
    mask = garment_mask(image, label)
    assert mask[8, 8] == filled and not mask[0, 0]


def test_a_gap_that_reaches_the_border_is_no_hole():
    image = np.full((28, 28), 200, np.uint8)
    image[:10, 12:16] = 0
    assert not garment_mask(image, SHIRT)[:10, 12:16].any()


def test_the_grey_is_spread_beyond_the_edge():
    image = square()
    image[5, 5:20] = 20  # an edge pixel is half ground
    garment = cut_out(image, SHIRT)
    assert garment.mask.shape == (28 + 2 * MARGIN, ) * 2 and garment.mask.sum() == 225
    assert garment.grey.min() == 200


def test_an_empty_image_has_no_garment():
    assert not cut_out(np.zeros((28, 28), np.uint8), SHIRT).mask.any()


def test_a_damaged_idx_file_is_named(tmp_path):
    for content, part in ((b'', 'no IDX'), (b'PNG?', 'no IDX'), (b'\0\0\x08\x01\0\0\0\x05abc', '3 values'),
                          (b'\x1f\x8bxx', 'gzip')):
        path = tmp_path / 'x-ubyte'
        path.write_bytes(content)
        with pytest.raises(ValueError, match=part) as error:
            read_idx(path)
        assert str(path) in str(error.value)


# --- composing

def test_the_splits_share_no_pixel_of_a_background_and_every_class():
    train, val = Backgrounds('train'), Backgrounds('val')
    assert {value for _, value in train.photographs} == {value for _, value in val.photographs} == set(
        range(len(STUFF) + 1))
    assert not set(UNLABELLED['train']) & set(UNLABELLED['val']) and len(LABELLED) == len(STUFF)
    for value in range(1, len(STUFF) + 1):
        left, right = (next(image for image, v in b.photographs if v == value) for b in (train, val))
        whole = left.base if left.base is not None else left
        assert left.shape[1] + right.shape[1] == whole.shape[1]
        assert np.array_equal(np.hstack([left, right]), whole)


def test_at_224_pixels_all_of_cocos_size_ranges_occur_and_enough_is_visible(source):
    garments, backgrounds = Garments(source, 'train'), Backgrounds('train')
    areas, stuff = [], set()
    for index in range(40):
        scene = scene_at(index, 'train', garments, backgrounds, size=224, seed=0)
        stuff |= set(np.unique(scene.stuff))
        assert scene.objects and scene.objects[0].crowd == (index % 10 == 0)
        assert not any(layer.crowd for layer in scene.objects[1:])
        for number, layer in enumerate(scene.objects):
            visible = (scene.ids == number + 1).sum()
            assert visible >= max(MIN_PIXELS, MIN_VISIBLE * layer.full_area)
            if not layer.crowd:
                areas.append(visible)
    small, large = (np.array(areas) < 32**2).mean(), (np.array(areas) > 96**2).mean()
    assert small > 0.15 and large > 0.02 and small + large < 0.85
    assert stuff == set(range(len(STUFF) + 1))


def test_a_scene_depends_on_its_index_alone(source):
    garments, backgrounds = Garments(source, 't10k'), Backgrounds('val')

    def image(index, seed=0, split='val'):
        return scene_at(index, split, garments, backgrounds, SIZE, seed).image

    first = image(5)
    assert not np.array_equal(image(6), first)
    assert np.array_equal(image(5), first)
    assert not np.array_equal(image(5, seed=1), first) and not np.array_equal(image(5, split='train'), first)


# --- what is written

def test_same_arguments_same_bytes(scenes, source, tmp_path):
    code = (f'import cv2; cv2.setNumThreads(1); from mmscalenet.datasets.writing import write_fashion_scenes as w; '
            f'w({str(tmp_path / "again")!r}, {str(source)!r}, size={SIZE}, seed=3, **{COUNTS})')
    subprocess.run([sys.executable, '-W', 'ignore', '-c', code], check=True, stdout=subprocess.DEVNULL)
    assert digest(tmp_path / 'again') == digest(scenes)
    assert len(digest(scenes)) == 2 * sum(COUNTS.values()) + 2 + 1


def test_masks_boxes_areas_and_maps_agree(scenes, split, coco):
    assert len(coco.imgs) == COUNTS[split] and [cat['name'] for cat in coco.cats.values()] == list(GARMENTS)
    crowds = 0
    for image_id, info in coco.imgs.items():
        assert cv2.imread(str(scenes / f'images/{split}' / info['file_name'])).shape == (SIZE, SIZE, 3)
        path = (scenes / f'semantic/{split}' / info['file_name']).with_suffix('.png')
        semantic = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert semantic.shape == (SIZE, SIZE) and semantic.max() <= len(GARMENTS) + len(STUFF)
        painted = np.zeros((SIZE, SIZE), int)
        anns = coco.loadAnns(coco.getAnnIds(image_id))
        for ann in anns:
            mask = coco.annToMask(ann).astype(bool)
            ys, xs = np.nonzero(mask)
            assert ann['bbox'] == [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
            assert ann['area'] == mask.sum() >= MIN_PIXELS
            assert (semantic[mask] == ann['category_id']).all()
            painted += mask
        assert painted.max() == 1, 'masks overlap'
        assert not np.isin(semantic[painted == 0], range(1, 1 + len(GARMENTS))).any()
        crowds += sum(ann['iscrowd'] for ann in anns)
    assert crowds == 1


def test_a_crowd_is_many_parts(coco):
    ann, = (ann for ann in coco.anns.values() if ann['iscrowd'])
    parts, _, stats, _ = cv2.connectedComponentsWithStats(coco.annToMask(ann))
    assert parts > 3 and stats[1:, cv2.CC_STAT_AREA].max() < 24**2 * 3


def predictions(coco: COCO) -> list[dict]:
    samples = []
    for image_id, info in coco.imgs.items():
        anns = coco.loadAnns(coco.getAnnIds(image_id, iscrowd=False))
        boxes = torch.tensor([ann['bbox'] for ann in anns], dtype=torch.float32)
        boxes[:, 2:] += boxes[:, :2]
        masks = torch.from_numpy(np.stack([coco.annToMask(ann) for ann in anns]).astype(bool))
        labels = torch.tensor([ann['category_id'] - 1 for ann in anns])
        samples.append(dict(img_id=image_id, ori_shape=(info['height'], info['width']), pred_instances=dict(
            bboxes=boxes, masks=masks, labels=labels, scores=torch.full((len(anns), ), 0.9))))
    return samples


def evaluate(scenes: Path, split: str, samples: list[dict]) -> dict[str, float]:
    metric = CocoMetric(ann_file=str(scenes / f'annotations/instances_{split}.json'), metric=['bbox', 'segm'])
    metric.dataset_meta = dict(classes=GARMENTS)
    metric.process({}, samples)
    return metric.evaluate(len(samples))


def test_the_ground_truth_scores_one(scenes, split, coco):
    scores = evaluate(scenes, split, predictions(coco))
    assert scores['coco/bbox_mAP'] == scores['coco/segm_mAP'] == 1


def test_moved_masks_and_wrong_classes_do_not(scenes, split, coco):
    samples = predictions(coco)
    for sample in samples:
        sample['pred_instances']['masks'] = sample['pred_instances']['masks'].roll(4, dims=-1)
    scores = evaluate(scenes, split, samples)
    assert scores['coco/bbox_mAP'] == 1 and scores['coco/segm_mAP'] < 0.8
    for sample in samples:
        sample['pred_instances']['labels'] = (sample['pred_instances']['labels'] + 1) % 10
    assert evaluate(scenes, split, samples)['coco/bbox_mAP'] < 0.2


def test_a_repeated_call_writes_nothing_and_other_arguments_are_refused(scenes, source):
    before = {path: path.stat().st_mtime_ns for path in scenes.rglob('*')}
    assert write_fashion_scenes(scenes, source, **COUNTS, size=SIZE, seed=3) == scenes
    with pytest.raises(FileExistsError, match=r'seed 3, not 4.*--out'):
        write_fashion_scenes(scenes, source, **COUNTS, size=SIZE, seed=4)
    assert before == {path: path.stat().st_mtime_ns for path in scenes.rglob('*')}


def test_a_lost_file_is_named(source, tmp_path):
    arguments = dict(out=tmp_path / 'scenes', source=source, train=2, val=1, size=96)
    write_fashion_scenes(**arguments)
    (tmp_path / 'scenes/semantic/train/000001.png').unlink()
    with pytest.raises(FileExistsError, match=r'semantic/train lacks 1 files, first 000001.png'):
        write_fashion_scenes(**arguments)


@pytest.mark.parametrize('name, value', [('train', 0), ('val', -1), ('size', 95), ('size', 1025), ('seed', -1)])
def test_a_number_out_of_range_is_refused(source, tmp_path, name, value):
    with pytest.raises(ValueError, match=f'{name} must be from .* got {value}'):
        write_fashion_scenes(tmp_path / 'scenes', source, **{name: value})
    assert not list(tmp_path.iterdir())


def test_a_strangers_folder_is_left_alone(source, tmp_path):
    (tmp_path / 'mine.txt').write_text('mine')
    with pytest.raises(FileExistsError, match='holds no Fashion scenes'):
        write_fashion_scenes(tmp_path, source)
    assert [path.name for path in tmp_path.iterdir()] == ['mine.txt']


def test_a_failure_half_way_leaves_nothing(source, tmp_path):
    garments = tmp_path / 'garments'
    garments.mkdir()
    for path in source.glob('*ubyte'):
        (garments / path.name).symlink_to(path)
    (garments / 't10k-labels-idx1-ubyte').unlink()  # val comes second
    with pytest.raises(FileNotFoundError, match='t10k-labels'):
        write_fashion_scenes(tmp_path / 'out/scenes', garments, train=2, val=1, size=96)
    assert not list((tmp_path / 'out').iterdir())


def test_killed_in_the_middle_and_started_again(source, tmp_path):
    out = tmp_path / 'scenes'
    code = ('from mmscalenet.datasets.writing import write_fashion_scenes as w; '
            f'w({str(out)!r}, {str(source)!r}, train=5000, size=96)')
    process = subprocess.Popen([sys.executable, '-W', 'ignore', '-c', code], stdout=subprocess.DEVNULL)
    try:
        deadline = time.time() + 60
        while not list(tmp_path.glob('.scenes-*/whole/images/train/000003.jpg')) and time.time() < deadline:
            time.sleep(0.05)
        assert process.poll() is None
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert list(tmp_path.glob('.scenes-*')) and not out.exists()
    write_fashion_scenes(out, source, train=2, val=1, size=96)
    assert len(list((out / 'images/train').iterdir())) == 2


def test_the_picture(scenes, tmp_path):
    draw_scenes(scenes, tmp_path / 'pictures/scenes.png', count=5)
    picture = cv2.imread(str(tmp_path / 'pictures/scenes.png'))
    assert picture.shape[0] < picture.shape[1] and len(np.unique(picture.reshape(-1, 3), axis=0)) > 50


@pytest.mark.skipif(not REAL.is_dir(), reason='needs data/fashion_mnist')
def test_the_tool(tmp_path):
    command = [sys.executable, '-W', 'ignore', TOOL, '--out', tmp_path / 'scenes', '--train', '2', '--val', '1',
               '--size', '96', '--fashion-mnist', REAL]
    done = subprocess.run([*command, '--show', tmp_path / 'scenes.png'], capture_output=True, text=True, cwd=tmp_path)
    assert not done.returncode, done.stderr
    assert '2/2' in done.stdout and 'ready in' in done.stdout and (tmp_path / 'scenes.png').is_file()
    done = subprocess.run([*command, '--seed', '1'], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode and done.stderr.startswith('error: ') and 'seed 0, not 1' in done.stderr


# --- read by the libraries

def test_names_resolve_from_a_config_and_pull_in_nothing_early():
    code = '''
import sys, mmscalenet
from mmengine.registry import DATASETS, init_default_scope
assert 'mmscalenet.datasets' not in sys.modules
init_default_scope('mmdet')
from mmdet.registry import DATASETS as MMDET
a = MMDET.get('mmscalenet.FashionScenesDataset')
from mmseg.registry import DATASETS as MMSEG
b = MMSEG.get('mmscalenet.FashionScenesSegDataset')
assert a is DATASETS.get('mmscalenet.FashionScenesDataset')
print([c.__name__ for c in (*a.__mro__[:2], *b.__mro__[:2])])
'''
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True)
    assert done.stdout.split('\n')[-2:-1] == [
        "['FashionScenesDataset', 'CocoDataset', 'FashionScenesSegDataset', 'BaseSegDataset']"], done.stderr


def test_mmdet_reads_it(scenes, split, coco):
    init_default_scope('mmdet')
    dataset = DATASETS.build(config('coco', scenes)[f'{split}_dataloader'].dataset)
    assert len(dataset) == COUNTS[split] and dataset.metainfo['classes'] == GARMENTS
    for index in range(len(dataset)):
        sample = dataset[index]['data_samples']
        truth = coco.loadAnns(coco.getAnnIds(sample.img_id, iscrowd=False))
        assert sample.gt_instances.labels.tolist() == [ann['category_id'] - 1 for ann in truth]
        assert len(sample.ignored_instances) == (index == 0)
        assert np.array_equal(sample.gt_instances.masks.masks, [coco.annToMask(ann) for ann in truth])
        assert np.array_equal(sample.ignored_instances.masks.masks,
                              [coco.annToMask(ann) for ann in coco.anns.values()
                               if ann['iscrowd'] and ann['image_id'] == sample.img_id] or np.zeros((0, SIZE, SIZE)))


def test_mmseg_reads_it(scenes, split):
    init_default_scope('mmseg')
    dataset = DATASETS.build(config('semantic', scenes)[f'{split}_dataloader'].dataset)
    assert len(dataset) == COUNTS[split] and dataset.metainfo['classes'] == GARMENTS + STUFF
    assert len(dataset.metainfo['palette']) == 17
    for index in range(len(dataset)):
        sample = dataset[index]['data_samples']
        labels = set(sample.gt_sem_seg.data.unique().tolist())
        assert labels <= {*range(17), 255}
        if split == 'val':  # ground truth is not resized
            semantic = cv2.imread(sample.seg_map_path, cv2.IMREAD_UNCHANGED)
            assert np.array_equal(sample.gt_sem_seg.data[0].numpy().astype(np.uint8), semantic - np.uint8(1))


def test_the_annotations_are_plain_coco(scenes, split):
    data = json.loads((scenes / f'annotations/instances_{split}.json').read_text())
    assert [image['id'] for image in data['images']] == list(range(1, COUNTS[split] + 1))
    assert [ann['id'] for ann in data['annotations']] == list(range(1, len(data['annotations']) + 1))
    assert all(isinstance(ann['segmentation']['counts'], str) for ann in data['annotations'])
