"""tools/visualization/browse_dataset.py: pictures of what the pipelines give."""
import json
import shutil

import cv2
import numpy as np
import pytest
from PIL import Image

SCRIPT = 'visualization/browse_dataset.py'


def pictures(folder) -> dict[str, np.ndarray]:
    return {path.name: np.array(Image.open(path)) for path in sorted(folder.iterdir())}


@pytest.mark.parametrize('task, names', [
    ('cls', ['000000_0.png', '000001_2.png', '000002_4.png']),
    ('det', ['000000_0.png', '000001_1.png', '000002_2.png']),
    ('seg', ['000000_0.png', '000001_1.png', '000002_2.png']),
])
def test_pictures(task, names, request, write_config, tool, tmp_path):
    config = write_config(request.getfixturevalue(f'{task}_fields'), task)
    for split in ('train', 'val', 'test'):
        tool(SCRIPT, config, '--split', split, '--number', 3, '--out', tmp_path / split)
        assert list(pictures(tmp_path / split)) == names
    tool(SCRIPT, config)
    assert len(pictures(tmp_path / 'work_dirs' / task / 'browse_train')) == (8 if task == 'cls' else 4)


def test_colours_of_a_classifier(cls_fields, write_config, tool, tmp_path):
    """Class 0 is red and class 1 green in the files: a picture with red and blue swapped would show."""
    tool(SCRIPT, write_config(cls_fields), '--out', tmp_path / 'out')
    for index, picture in enumerate(pictures(tmp_path / 'out').values()):
        assert picture[100:].mean((0, 1)).argmax() == (0 if index < 4 else 1)


def test_a_data_set_without_classes(seg_fields, write_config, tool, tmp_path, capsys):
    del seg_fields['train_dataloader']['dataset']['metainfo']
    with pytest.raises(SystemExit):
        tool(SCRIPT, write_config(seg_fields), '--out', tmp_path / 'out')
    assert 'error: the data set names no classes' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


RED_ARRAYS = """
import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS

@DATASETS.register_module(force=True)
class RedArrays(BaseDataset):
    METAINFO = dict(classes=['red'])

    def load_data_list(self):
        image = np.zeros((32, 32, 3), np.uint8)
        image[..., 0] = 200
        return [dict(img=image, gt_label=0)]
"""


def test_colours_of_arrays_in_rgb(cls_fields, write_config, tool, tmp_path, monkeypatch):
    """As CIFAR's: its images come from no file and are RGB already."""
    (tmp_path / 'red_arrays.py').write_text(RED_ARRAYS)
    monkeypatch.syspath_prepend(tmp_path)
    cls_fields['custom_imports'] = dict(imports=['mmscalenet', 'red_arrays'], allow_failed_imports=False)
    cls_fields['model']['data_preprocessor']['to_rgb'] = False
    cls_fields['train_dataloader']['dataset'] = dict(type='RedArrays', pipeline=[dict(type='PackInputs')])
    tool(SCRIPT, write_config(cls_fields), '--out', tmp_path / 'out')
    assert pictures(tmp_path / 'out')['000000.png'][100:].mean((0, 1)).argmax() == 0


def changed(picture: np.ndarray, plain: np.ndarray) -> np.ndarray:
    """Where something bright is drawn: an enclosing box x1, y1, x2, y2."""
    ys, xs = np.nonzero(np.abs(picture.astype(int) - plain).sum(-1) > 300)
    return np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])


@pytest.mark.parametrize('split', ['train', 'val'])
def test_boxes_lie_on_resized_objects(split, det_fields, write_config, tool, tmp_path, tiny_data):
    """The pipeline of validation loads boxes after the resize, at the original size: they would miss the objects."""
    fields = det_fields
    for loader in ('train_dataloader', 'val_dataloader'):
        for step in fields[loader]['dataset']['pipeline']:
            if step['type'] == 'Resize':
                step['scale'] = (256, 256)
    tool(SCRIPT, write_config(fields), '--split', split, '--out', tmp_path / 'out')
    annotations = json.loads((tiny_data / 'det/annotations.json').read_text())['annotations']
    for index, picture in enumerate(pictures(tmp_path / 'out').values()):
        assert picture.shape == (256, 256, 3)
        plain = cv2.imread(str(tiny_data / f'det/images/{index}.png'))[..., ::-1]
        x, y, width, height = np.array(annotations[index]['bbox']) * 4
        box = changed(picture, cv2.resize(plain, (256, 256)))
        assert np.abs(box - [x, y, x + width, y + height]).max() <= 12


def test_train_pipeline_keeps_its_order(det_fields, write_config, tool, tmp_path, tiny_data):
    """Boxes that are loaded after the resize miss the objects, and so the picture shows it."""
    dataset = det_fields['train_dataloader']['dataset']
    load, _, resize, pack = dataset['pipeline']
    dataset['pipeline'] = [load, dict(resize, scale=(256, 256)), dict(type='LoadAnnotations', with_bbox=True), pack]
    tool(SCRIPT, write_config(det_fields), '--number', 1, '--out', tmp_path / 'out')
    x, y, *_ = json.loads((tiny_data / 'det/annotations.json').read_text())['annotations'][0]['bbox']
    plain = cv2.imread(str(tiny_data / 'det/images/0.png'))[..., ::-1]
    box = changed(pictures(tmp_path / 'out')['000000_0.png'], cv2.resize(plain, (256, 256)))
    assert np.abs(box[:2] - [x, y]).max() <= 12


def test_seg_maps_follow_the_resize_and_255_is_left_out(seg_fields, write_config, tool, tmp_path, tiny_data):
    """reduce_zero_label makes 0 the ignored 255, and what was 1 the first class."""
    dataset = seg_fields['val_dataloader']['dataset']
    dataset['metainfo'] = dict(classes=('red', 'green'), palette=[[0, 0, 255], [255, 255, 0]])
    dataset['reduce_zero_label'] = True
    load, annotations, pack = dataset['pipeline']
    dataset['pipeline'] = [load, dict(type='Resize', scale=(128, 128)), dict(annotations, reduce_zero_label=True), pack]
    tool(SCRIPT, write_config(seg_fields), '--split', 'val', '--out', tmp_path / 'out')
    for index, picture in enumerate(pictures(tmp_path / 'out').values()):
        labels = np.array(Image.open(tiny_data / f'seg/maps/{index}.png').resize((128, 128), Image.NEAREST))
        assert picture.shape == (128, 128, 3)
        inside, outside = picture[labels > 0].astype(int), picture[labels == 0]
        assert outside.max() < 160 and np.median(outside) < 30  # half of a dark background, no colour over it
        kind = labels.max() - 1
        assert np.median(inside[:, 2] - inside[:, 0]) > 20 if kind == 0 else np.median(inside[:, 2]) < 40


def test_repeated_and_mosaic_images(det_fields, write_config, tool, tmp_path):
    """Every sample has a picture of its own, though they come from the same files."""
    inner = det_fields['train_dataloader']['dataset']
    load, _, _, pack = inner['pipeline']
    inner['pipeline'] = [load, dict(type='LoadAnnotations', with_bbox=True)]  # Mosaic takes no masks
    det_fields['train_dataloader']['dataset'] = dict(
        type='MultiImageMixDataset', dataset=dict(type='RepeatDataset', times=2, dataset=inner),
        pipeline=[dict(type='Mosaic', img_scale=(64, 64)), dict(type='FilterAnnotations', min_gt_bbox_wh=(1, 1)), pack])
    tool(SCRIPT, write_config(det_fields), '--out', tmp_path / 'out')
    found = pictures(tmp_path / 'out')
    assert len(found) == 8 and {picture.shape for picture in found.values()} == {(128, 128, 3)}


@pytest.mark.parametrize('arguments, words', [
    (('--number', 0), '--number 0'),
    (('--split', 'val', '--cfg-options', 'val_dataloader=None'), 'val_dataloader'),
    (('--cfg-options', 'default_scope=mmengine'), 'default_scope'),
])
def test_refused(arguments, words, cls_fields, write_config, tool, tmp_path, capfd):
    with pytest.raises(SystemExit):
        tool(SCRIPT, write_config(cls_fields), '--out', tmp_path / 'out', *arguments)
    assert words in capfd.readouterr().err.splitlines()[-1]
    assert not (tmp_path / 'out').exists()


def test_frames_of_videos_are_refused(det_fields, write_config, tool, tmp_path, tiny_data, capfd):
    annotations = json.loads((tiny_data / 'det/annotations.json').read_text())
    for frame, image in enumerate(annotations['images']):
        image.update(video_id=1, frame_id=frame)
    for annotation in annotations['annotations']:
        annotation.update(video_id=1, instance_id=annotation['id'])
    annotations['videos'] = [dict(id=1, name='one')]
    (tmp_path / 'videos.json').write_text(json.dumps(annotations))
    dataset = det_fields['train_dataloader']['dataset']
    det_fields['train_dataloader']['dataset'] = dict(
        type='YouTubeVISDataset', dataset_version='2021', metainfo=dataset.get('metainfo'),
        data_prefix=dict(img_path=str(tiny_data / 'det/images')), ann_file=str(tmp_path / 'videos.json'), pipeline=[
            dict(type='UniformRefFrameSample', num_ref_imgs=1, frame_range=2),
            dict(type='TransformBroadcaster', transforms=[dict(type='LoadImageFromFile'),
                                                          dict(type='LoadTrackAnnotations')]),
            dict(type='PackTrackInputs')])
    with pytest.raises(SystemExit):
        tool(SCRIPT, write_config(det_fields), '--out', tmp_path / 'out')
    assert 'frames of a video, and only single images can be drawn' in capfd.readouterr().err.splitlines()[-1]


def test_missing_data(det_fields, write_config, tool, tmp_path, tiny_data, capfd):
    shutil.copytree(tiny_data / 'det', tmp_path / 'det')
    (tmp_path / 'det/images/1.png').unlink()
    det_fields['train_dataloader']['dataset']['data_root'] = str(tmp_path / 'det')
    with pytest.raises(SystemExit):
        tool(SCRIPT, write_config(det_fields), '--out', tmp_path / 'out')
    assert 'images/1.png" does not exist' in capfd.readouterr().err
    assert all(name.endswith('.png') for name in pictures(tmp_path / 'out'))


def test_wrong_class_order(det_fields, write_config, tool, tmp_path, capfd):
    det_fields['train_dataloader']['dataset']['metainfo'] = dict(classes=('green', 'red'))
    with pytest.raises(SystemExit):
        tool(SCRIPT, write_config(det_fields), '--out', tmp_path / 'out')
    error = capfd.readouterr().err
    assert 'classes in another order' in error.splitlines()[-1] and 'Traceback' not in error
    assert not (tmp_path / 'out').exists()


def test_damaged_image(det_fields, write_config, tool, tmp_path, tiny_data, capfd):
    """Of a data set inside another one."""
    shutil.copytree(tiny_data / 'det', tmp_path / 'det')
    (tmp_path / 'det/images/1.png').write_bytes(b'no image')
    inner = det_fields['train_dataloader']['dataset'] | dict(data_root=str(tmp_path / 'det'))
    det_fields['train_dataloader']['dataset'] = dict(type='RepeatDataset', times=2, dataset=inner)
    with pytest.raises(SystemExit):
        tool(SCRIPT, write_config(det_fields), '--out', tmp_path / 'out')
    error = capfd.readouterr().err
    assert 'images/1.png" (id 1) (8 bytes) cannot be loaded' in error.splitlines()[-1] and 'Traceback' not in error
