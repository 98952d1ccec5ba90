"""The check of COCO annotation files, through mmdet's own data set and metric."""
import json
import time

import numpy as np
import pytest
import torch
from mmdet.datasets import CocoDataset
from mmdet.datasets.api_wrappers import COCO
from mmdet.evaluation.metrics import CocoMetric, coco_metric
from pycocotools import mask as rle

from mmscalenet.engine import UsageError, coco_annotations
from mmscalenet.engine.coco_annotations import CheckedCOCO, CheckedGroundTruth, check_annotations

CLASSES = ('cup', 'fork', 'knife')


@pytest.fixture(autouse=True)
def check(monkeypatch):
    monkeypatch.setattr(CocoDataset, 'COCOAPI', COCO)
    monkeypatch.setattr(coco_metric, 'COCO', COCO)
    check_annotations()


@pytest.fixture
def coco() -> dict:
    """Ids with gaps and from 0 on, a crowd, masks of every form, an image without objects, a box without area."""
    masks = [[[1, 1, 5, 1, 5, 5]], [[]], dict(size=[40, 60], counts=[0, 2400]),
             rle.encode(np.asfortranarray(np.eye(40, 60, dtype=np.uint8))), [], None]
    masks[3]['counts'] = masks[3]['counts'].decode()
    return dict(
        images=[dict(id=i, file_name=f'{i}.png', height=40, width=60) for i in (0, 7, 9)],
        categories=[dict(id=i, name=name) for i, name in zip((0, 3, 90), CLASSES, strict=True)],
        annotations=[dict(id=10 * i, image_id=(0, 7)[i % 2], category_id=(0, 3, 90)[i % 3], iscrowd=int(i == 2),
                          bbox=[1, 1, 4 * (i != 5), 4.5], area=18., segmentation=mask)
                     for i, mask in enumerate(masks)])


@pytest.fixture
def build(tmp_path):

    def dataset(content: dict | str, classes=CLASSES, **kwargs) -> CocoDataset:
        (tmp_path / 'ann.json').write_text(content if isinstance(content, str) else json.dumps(content))
        kwargs.setdefault('metainfo', dict(classes=classes))
        return CocoDataset(ann_file=str(tmp_path / 'ann.json'), data_prefix=dict(img=''), pipeline=[], **kwargs)

    return dataset


def test_good_files_are_taken(build, coco):
    assert [len(build(coco).get_data_info(i)['instances']) for i in range(3)] == [3, 2, 0]
    for annotation in coco['annotations']:
        del annotation['segmentation'], annotation['iscrowd']
    assert [len(build(coco).get_data_info(i)['instances']) for i in range(3)] == [3, 2, 0]


def test_a_large_file_takes_no_time(build, coco):
    """As many annotations as COCO has in half a second's worth of reading it, with polygons as long as COCO's."""
    template = coco['annotations'][0] | dict(category_id=3, image_id=0, segmentation=[[1.5] * 50])
    coco['annotations'] = [template | dict(id=i) for i in range(20000)]
    reader = CheckedCOCO()
    reader.file, reader.dataset = 'large.json', coco
    start = time.process_time()
    COCO.createIndex(reader)
    plain = time.process_time() - start
    reader.createIndex()
    assert time.process_time() - start - plain < 0.5  # of which 0.05 s are expected


def test_classes_may_be_some_of_the_files(build, coco):
    dataset = build(coco, classes=('fork', ))
    assert [inst['bbox_label'] for i in range(3) for inst in dataset.get_data_info(i)['instances']] == [0, 0]


def test_files_of_images_to_be_tested_have_no_annotations(build, coco):
    del coco['annotations']
    assert len(build(coco, test_mode=True)) == 3


@pytest.mark.parametrize('mask', [np.zeros((40, 60)), np.ones((40, 60)), np.indices((40, 60)).sum(0) % 2,
                                  np.random.default_rng(0).random((40, 60)) > 0.9])
def test_compressed_masks_are_read_as_pycocotools_does(mask):
    code = rle.encode(np.asfortranarray(mask, np.uint8))
    lengths = coco_annotations._run_lengths(code['counts'].decode())
    assert sum(lengths) == 2400 and sum(lengths[1::2]) == mask.sum()
    again = rle.frPyObjects(dict(size=[40, 60], counts=lengths), 40, 60)
    assert again['counts'] == code['counts']


def test_an_image_of_the_metric_may_lack_its_size(coco):
    """Then the RLE's own counts."""
    reader = CheckedGroundTruth()
    reader.file, reader.dataset = 'val.json', coco
    for annotation in coco['annotations']:
        annotation['iscrowd'] = 0
    for image in coco['images']:
        del image['height']
    reader.createIndex()
    for size, said in ((None, 'RLE of size None'), ([40], r'RLE of size \[40\]'), ([40, 50], '= 2000')):
        coco['annotations'][2]['segmentation']['size'] = size
        reader.dataset = coco
        with pytest.raises(UsageError, match=rf'val\.json": annotation 20 .*{said}'):
            reader.createIndex()


@pytest.mark.parametrize('part, entry, value, message', [
    ('annotations', 'bbox', [1, 2, 3], r'annotation 20 .*bbox \[1, 2, 3\], and four finite numbers are needed'),
    ('annotations', 'bbox', [1, 2, 3, float('nan')], r'annotation 20 .*bbox \[1, 2, 3, nan\]'),
    ('annotations', 'bbox', ['1', 2, 3, 4], r'annotation 20 .*bbox'),
    ('annotations', 'bbox', None, r'annotation 20 .*bbox None'),
    ('annotations', 'segmentation', [1, 1, 2, 2, 3, 3], r'annotation 20 .*polygon that is no list of numbers: 1'),
    ('annotations', 'segmentation', dict(size=[60, 40], counts=[0, 2400]),
     r'annotation 20 .*RLE of size \[60, 40\], and the image has height and width \[40, 60\]'),
    ('annotations', 'segmentation', dict(size=[40, 60]), r'annotation 20 .*neither a list of polygons nor an RLE'),
    ('annotations', 'segmentation', 'PPYo1', r'annotation 20 .*neither a list of polygons nor an RLE'),
    ('annotations', 'segmentation', [[1, 1, 2, 1, '2', 2]], r"annotation 20 .*polygon with '2' in it"),
    ('annotations', 'segmentation', [[1, 1, 2, 1, None, 2]], r'annotation 20 .*polygon with None in it'),
    ('annotations', 'segmentation', [[1, 1, 2, 1, float('nan'), 2]], r'annotation 20 .*polygon with nan in it'),
    ('annotations', 'segmentation', [[[1, 1], [2, 1], [2, 2]]], r'annotation 20 .*polygon with \[1, 1\] in it'),
    ('annotations', 'segmentation', dict(size=[40, 60], counts=[0, 2399]),
     r'annotation 20 .*RLE of 2399 pixels, and the image has 40 x 60 = 2400'),
    ('annotations', 'segmentation', dict(size=[40, 60], counts=[]), r'annotation 20 .*RLE of 0 pixels'),
    ('annotations', 'segmentation', dict(size=[40, 60], counts=[2401, -1]), r'annotation 20 .*RLE with -1 in its'),
    ('annotations', 'segmentation', dict(size=[40, 60], counts=[0, 100.5, 2299.5]), r'annotation 20 .*RLE with 100\.5'),
    ('annotations', 'segmentation', dict(size=[40, 60], counts=[0, None]), r'annotation 20 .*RLE with None in its'),
    ('annotations', 'segmentation', dict(size=[40, 60], counts='0PP'), r'annotation 20 .*broke off'),
    ('annotations', 'segmentation', dict(size=[40, 60], counts='0 P'), r'annotation 20 .*no text of pycocotools'),
    ('annotations', 'segmentation', dict(size=[40, 60], counts='04'), r'annotation 20 .*RLE of 4 pixels'),
    ('annotations', 'area', '18', r"annotation 20 .*area '18'"),
    ('annotations', 'id', 10, r'annotation 10 is there twice'),
    ('annotations', 'id', [10], r'annotation \[10\] has the id \[10\], and a number or a text'),
    ('annotations', 'image_id', [7], r'annotation 20 has the image_id \[7\]'),
    ('annotations', 'category_id', dict(id=7), r"annotation 20 has the category_id \{'id': 7\}"),
    ('images', 'id', {}, r'image \{\} has the id \{\}'),
    ('images', 'id', 7, r'image 7 is there twice'),
    ('images', 'height', '40', r"image 9 has the height '40', and a whole number"),
    ('images', 'width', None, r'image 9 has the width None, and a whole number'),
    ('images', 'file_name', 'val\\9.png', r"image 9 has the file_name 'val.*9.png', and folders are separated by"),
    ('categories', 'id', 3, r'category 3 is there twice'),
])
def test_broken_records_are_named(build, coco, part, entry, value, message):
    coco[part][2][entry] = value
    with pytest.raises(UsageError, match=r'annotation file ".*ann\.json": ' + message + r'.*Correct or remove'):
        build(coco)


@pytest.mark.parametrize('entry, value, logged', [
    ('image_id', 8, True), ('category_id', 1, True), ('ignore', 1, False), ('area', 0, False),
    ('segmentation', [[1, 1, 2, 2, 3, 3, 4]], False), ('segmentation', [[1, 1, 2, 2]], False)])
def test_what_mmdet_leaves_out_is_no_error(build, coco, entry, value, logged, monkeypatch):
    lines = []
    monkeypatch.setattr(coco_annotations, 'print_log', lambda line, *_: lines.append(line))
    coco['annotations'][2][entry] = value
    if entry == 'ignore':
        del coco['annotations'][2]['bbox']
    build(coco)
    assert bool(lines) == logged
    assert not lines or '1 of 6 annotations are left out' in lines[0] and 'annotation 20' in lines[0]


@pytest.mark.parametrize('part, entry, message', [
    ('annotations', 'id', r'entry 1 of "annotations" has no "id"'),
    ('annotations', 'image_id', r'annotation 10 has no "image_id"'),
    ('annotations', 'area', r'annotation 10 \(image 7, 7\.png\) has no "area"'),
    ('annotations', 'bbox', r'annotation 10 \(image 7, 7\.png\) has no "bbox"'),
    ('images', 'width', r'image 7 has no "width"'),
    ('images', 'file_name', r'image 7 has no "file_name"'),
    ('categories', 'name', r'category 3 has no "name"'),
])
def test_what_a_record_lacks_is_named(build, coco, part, entry, message):
    del coco[part][1][entry]
    with pytest.raises(UsageError, match=r'ann\.json": ' + message):
        build(coco)


@pytest.mark.parametrize('part', ['images', 'categories'])
def test_what_a_file_lacks_is_named(build, coco, part):
    for content in (coco | {part: []}, coco | {part: None}, {key: coco[key] for key in coco if key != part}):
        with pytest.raises(UsageError, match=rf'ann\.json" (lists no {part}|has no list "{part}")'):
            build(content)


@pytest.mark.parametrize('content', ['', '{"images": [', '<html></html>', '[]'])
def test_a_file_that_is_no_json_is_named(build, content):
    with pytest.raises(UsageError, match=r'ann\.json" is no JSON file in COCO\'s format: .*get it again'):
        build(content)


def test_a_byte_order_mark_is_named(build, coco):
    with pytest.raises(UsageError, match=r'ann\.json" is no JSON file.*Save it as UTF-8 without a byte-order mark'):
        build('\ufeff' + json.dumps(coco))


def test_a_truncated_file_is_named(build, coco):
    with pytest.raises(UsageError, match=r'ann\.json" is no JSON file'):
        build(json.dumps(coco)[:-20])


def test_classes_that_the_file_does_not_have(build, coco):
    with pytest.raises(UsageError, match=r"lacks 80 of the 80 classes of the config: 'person'.*are 'CUP', 'FORK', 'K"):
        build(coco | dict(categories=[category | dict(name=category['name'].upper())
                                      for category in coco['categories']]), classes=CocoDataset.METAINFO['classes'])
    with pytest.raises(UsageError, match=r"lacks 1 of the 3 classes of the config: 'Fork'"):
        build(coco, classes=('cup', 'Fork', 'knife'))
    with pytest.raises(UsageError, match=r"metainfo=dict\(classes=\('cup', \)\)"):
        build(coco, classes='cup')


def test_classes_in_another_order_would_be_swapped(build, coco, monkeypatch):
    swapped = ('fork', 'cup', 'knife')
    with pytest.raises(UsageError, match=r"another order.*call 'cup' 'fork'.*classes=\('cup', 'fork', 'knife', \)"):
        build(coco, classes=swapped)
    with pytest.raises(UsageError, match=r"several categories of the name 'cup'\."):
        build(coco | dict(categories=[*coco['categories'], dict(id=1, name='cup')]))
    # what mmdet does with it: the label is the place in the file, the name the place in the config
    monkeypatch.setattr(CocoDataset, 'COCOAPI', COCO)
    dataset = build(coco, classes=swapped)
    cup = dataset.get_data_info(0)['instances'][0]
    assert coco['annotations'][0]['category_id'] == 0 and dataset.metainfo['classes'][cup['bbox_label']] == 'fork'


def test_the_metric_reads_with_the_same_check(tmp_path, coco):
    path = tmp_path / 'val.json'
    path.write_text(json.dumps(coco))
    metric = CocoMetric(ann_file=str(path), metric='bbox')
    assert isinstance(metric._coco_api, CheckedCOCO)
    path.write_text(json.dumps(coco | dict(images=2 * coco['images'])))
    CocoMetric(ann_file=str(path), metric='bbox')
    del coco['annotations'][0]['iscrowd']
    path.write_text(json.dumps(coco))
    with pytest.raises(UsageError, match=r'val\.json": annotation 0 .* has no "iscrowd"'):
        CocoMetric(ann_file=str(path), metric='bbox')


@pytest.mark.parametrize('first', [0, 1, 'a'], ids=['from 0', 'from 1', 'texts'])
@pytest.mark.parametrize('kind', [int, float, str])
def test_the_metric_is_right_whatever_the_ids(tmp_path, first, kind):
    """The ground truth scored as the prediction: pycocotools alone gives 0.25 for ids from 0."""
    boxes = [[2., 3., 20., 10.], [5., 8., 9., 9.]]
    ids = iter('abcd' if first == 'a' else range(first, 9))
    objects = [dict(id=next(ids), image_id=kind(i), category_id=kind(c), iscrowd=0, area=box[2] * box[3], bbox=box)
               for i in (1, 2) for c, box in enumerate(boxes)]
    path = tmp_path / 'val.json'
    path.write_text(json.dumps(dict(
        images=[dict(id=kind(i), file_name=f'{i}.png', height=40, width=60) for i in (1, 2)], annotations=objects,
        categories=[dict(id=kind(c), name=name) for c, name in enumerate(CLASSES[:2])])))
    metric = CocoMetric(ann_file=str(path), metric='bbox')
    metric.dataset_meta = dict(classes=CLASSES[:2])
    corners = torch.tensor([[x, y, x + w, y + h] for x, y, w, h in boxes])
    for i in (1, 2):
        found = dict(bboxes=corners, scores=torch.tensor([.9, .8]), labels=torch.tensor([0, 1]))
        metric.process({}, [dict(img_id=kind(i), ori_shape=(40, 60), pred_instances=found)])
    assert metric.evaluate(size=2)['coco/bbox_mAP'] == 1.
