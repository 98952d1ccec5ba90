"""Data that is broken: training and testing end with one line that names file and record."""
import json

import cv2
import numpy as np
import pytest
from test_train_options import refused


def cut(path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


@pytest.mark.parametrize('task, file, content', [
    ('cls', 'cls/class1/3.png', b'<html>'), ('det', 'det/images/3.png', b''), ('seg', 'seg/images/3.png', None)])
def test_image(task, file, content, fields, data, write_config, tool, capfd):
    path = data / file
    if content is None:
        cut(path)
    else:
        path.write_bytes(content)
    line = refused(tool, capfd, 'train.py', write_config(fields(task)))
    assert f'the image "{path}"' in line and f'({path.stat().st_size} bytes) cannot be loaded' in line
    assert 'copy or download it again' in line.lower() and ('(id 3)' in line) == (task == 'det')


def test_image_in_wrappers_and_workers(fields, data, write_config, tool, capfd):
    path = data / 'det/images/3.png'
    cut(path)
    fields = fields('det')
    loader = fields['train_dataloader']
    loader['dataset'] = dict(type='RepeatDataset', times=2, dataset=dict(
        type='ConcatDataset', datasets=[loader['dataset'], loader['dataset']]))
    loader['num_workers'] = 1
    line = refused(tool, capfd, 'train.py', write_config(fields))
    assert line.startswith(f'error: the image "{path}"') and 'Traceback' not in line


@pytest.mark.parametrize('task, file', [('det', 'det/images/3.png'), ('seg', 'seg/maps/3.png')])
def test_while_testing(task, file, trained, data, tool, capfd):
    config, checkpoint = trained(task)
    cut(data / file)
    assert f'"{data / file}"' in refused(tool, capfd, 'test.py', config, checkpoint)
    (data / file).unlink()
    assert f'"{data / file}" does not exist' in refused(tool, capfd, 'test.py', config, checkpoint)


def test_image_of_another_size_than_its_annotation(fields, data, write_config, tool, capfd):
    path = data / 'det/images/2.png'
    cv2.imwrite(str(path), np.zeros((60, 64, 3), np.uint8))
    line = refused(tool, capfd, 'train.py', write_config(fields('det')))
    assert f'the image "{path}" (id 2) has height and width (60, 64), and its annotation says (64, 64)' in line


@pytest.mark.parametrize('shape', [(60, 64), (64, 64, 3)])
def test_map_that_does_not_go_with_its_image(shape, fields, data, write_config, tool, capfd):
    path = data / 'seg/maps/2.png'
    cv2.imwrite(str(path), np.zeros(shape, np.uint8))
    line = refused(tool, capfd, 'train.py', write_config(fields('seg')))
    assert f'"{path}" has the shape {shape}' in line
    assert f'"{data / "seg/images/2.png"}" has height and width (64, 64)' in line


@pytest.mark.parametrize('label', [255, 3])
def test_label_outside_the_classes(label, fields, data, write_config, tool, capfd):
    path = data / 'seg/maps/2.png'
    values = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    values[5, 7] = label
    cv2.imwrite(str(path), values)
    config = write_config(fields('seg'))
    if label == 255:
        tool('train.py', config)
    else:
        line = refused(tool, capfd, 'train.py', config)
        assert f'"{path}"' in line and f'has the labels [{label}]' in line and 'num_classes=3' in line


def test_object_of_a_class_that_the_head_does_not_know(fields, data, write_config, tool, capfd):
    """A Mask R-CNN would take the last class for background and go on."""
    path = data / 'det/annotations.json'
    content = json.loads(path.read_text())
    content['annotations'][2]['category_id'] = 2
    path.write_text(json.dumps(content))
    heads = [f'model.roi_head.{head}.num_classes={{}}' for head in ('bbox_head', 'mask_head')]
    config = write_config(fields('det'))
    line = refused(tool, capfd, 'train.py', config, '--cfg-options', *(head.format(1) for head in heads))
    assert f'the image "{data / "det/images/2.png"}" has an object of class 1, and with' in line
    assert 'model.roi_head.bbox_head.num_classes=1 those from 0 to 0 are known' in line
    tool('train.py', config, '--no-validate', '--cfg-options', *(head.format(80) for head in heads))
    log = capfd.readouterr().out
    assert 'model.roi_head.bbox_head.num_classes=80, and the data have 2 classes: red, green. Is it' in log


@pytest.mark.parametrize('split', ['train', 'val'])
def test_annotation_file(split, fields, data, write_config, tool, capfd):
    content = json.loads((data / 'det/annotations.json').read_text())
    content['annotations'][2]['bbox'] = [1, 2]
    path = data / 'det/broken.json'
    path.write_text(json.dumps(content))
    line = refused(tool, capfd, 'train.py', write_config(fields('det')), '--cfg-options',
                   f'{split}_dataloader.dataset.ann_file=broken.json')
    assert line.startswith(f'error: the annotation file "{path}": annotation 3 (image 2, 2.png) has the bbox [1, 2]')


def test_annotation_file_of_the_metric(fields, data, write_config, tool, capfd):
    path = data / 'det/broken.json'
    path.write_text((data / 'det/annotations.json').read_text()[:-100])
    line = refused(tool, capfd, 'train.py', write_config(fields('det')), '--cfg-options',
                   f'val_evaluator.ann_file={path}')
    assert f'"{path}" is no JSON file' in line


def test_object_without_mask(fields, data, write_config, tool, capfd):
    path = data / 'det/annotations.json'
    content = json.loads(path.read_text())
    for annotation in content['annotations']:
        del annotation['segmentation']
    path.write_text(json.dumps(content))
    line = refused(tool, capfd, 'train.py', write_config(fields('det')))
    assert f'the annotation of the image "{data / "det/images"}' in line and "an object has no 'mask'" in line


def test_nothing_found(fields, data, write_config, tool, capfd):
    path = data / 'det/annotations.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | dict(annotations=[])))
    line = refused(tool, capfd, 'train.py', write_config(fields('det')), '--cfg-options',
                   'train_dataloader.dataset.filter_cfg.filter_empty_gt=True')
    assert 'CocoDataset is empty' in line and f'ann_file={str(path)!r}' in line
    line = refused(tool, capfd, 'train.py', write_config(fields('seg')), '--cfg-options',
                   'train_dataloader.dataset.img_suffix=.jpg')
    assert 'BaseSegDataset is empty' in line and "img_suffix='.jpg'" in line


def test_errors_of_other_transforms_keep_their_traceback(fields, write_config, tool):
    fields = fields('seg')
    fields['train_dataloader']['dataset']['pipeline'].insert(2, dict(type='RandomCrop', crop_size=(64, 'wide')))
    with pytest.raises(TypeError):
        tool('train.py', write_config(fields))
