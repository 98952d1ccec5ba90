"""The inferencer against tools/test.py, which predicts through the runner."""
import json
import pickle
import warnings

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from mmscalenet.apis import Inferencer, describe
from mmscalenet.checkpoints import CheckpointError
from mmscalenet.models.backbones.scalenet import EXPAND_ARGUMENTS

LAST = {'cls': 'epoch_1.pth', 'det': 'epoch_1.pth', 'seg': 'iter_2.pth'}
CLASSES = {'cls': ['class0', 'class1'], 'det': ['red', 'green']}


@pytest.fixture(params=['cls', 'det', 'seg'])
def fields(request) -> tuple[str, dict]:
    fields = request.getfixturevalue(f'{request.param}_fields')
    if request.param == 'cls':
        fields['train_cfg'] = dict(by_epoch=True, max_epochs=1)
    return request.param, fields


@pytest.fixture
def trained(fields, write_config, tool, tmp_path):
    """A task, its config, a checkpoint of it and what tools/test.py predicts with them."""
    task, fields = fields
    config = write_config(fields, task)
    tool('train.py', config, '--no-validate')
    checkpoint = tmp_path / 'work_dirs' / task / LAST[task]
    tool('test.py', config, checkpoint, '--out', 'results.pkl')
    return task, config, checkpoint, pickle.loads((tmp_path / 'results.pkl').read_bytes())


def flat(sample: dict, task: str) -> list[np.ndarray]:
    """The predicted values."""
    if task == 'cls':
        return [np.asarray(sample['pred_score'])]
    if task == 'seg':
        return [np.asarray(sample['pred_sem_seg']['data'])]
    return [np.asarray(sample['pred_instances'][key]) for key in ('bboxes', 'labels', 'scores')]


def test_predicts_as_the_runner(trained):
    task, config, checkpoint, expected = trained
    inferencer = Inferencer(config, str(checkpoint), 'cpu')
    paths = [sample['img_path'] for sample in expected]
    results = list(inferencer(paths, batch_size=3))
    assert len(results) == len(expected)
    for sample, wanted in zip(results, expected, strict=True):
        for value, wanted_value in zip(flat(sample.to_dict(), task), flat(wanted, task), strict=True):
            np.testing.assert_allclose(value, wanted_value, rtol=1e-4, atol=1e-4)
    arrays = list(inferencer([inferencer.load(path) for path in paths]))
    for sample, other in zip(arrays, results, strict=True):
        for value, wanted_value in zip(flat(sample.to_dict(), task), flat(other.to_dict(), task), strict=True):
            np.testing.assert_allclose(value, wanted_value, rtol=1e-4, atol=1e-4)

    for one in (str(paths[0]), inferencer.load(paths[0])):  # one image need not be in a list
        alone, = inferencer(one)
        for value, wanted_value in zip(flat(alone.to_dict(), task), flat(results[0].to_dict(), task), strict=True):
            np.testing.assert_allclose(value, wanted_value, rtol=1e-4, atol=1e-4)
    if task in CLASSES:
        assert inferencer.classes == CLASSES[task]
    result = inferencer.describe(results[0])
    assert json.loads(json.dumps(result)) == result
    if task == 'cls':
        assert result['label'] == int(expected[0]['pred_label'])
        assert [entry['score'] for entry in result['top5']] == sorted(expected[0]['pred_score'].tolist(), reverse=True)
    elif task == 'det':
        from pycocotools import mask as rle
        assert result['masks'] and len(result['masks']) == len(result['boxes']) == len(result['names'])
        wanted = [rle.decode(mask) for mask in expected[0]['pred_instances']['masks']]
        assert (rle.decode(result['masks']) == np.stack(wanted, -1)).mean() > 0.999
        middle = sorted(result['scores'])[len(result['scores']) // 2]
        assert len(inferencer.describe(results[0], middle)['labels']) == sum(s > middle for s in result['scores'])
    else:
        assert sum(entry['share'] for entry in result['classes']) == pytest.approx(1)
        counts = np.bincount(np.asarray(expected[0]['pred_sem_seg']['data']).ravel())
        assert result['classes'][0]['label'] == counts.argmax()
    assert inferencer.draw(paths[0], results[0]).ndim == 3


def test_needs_no_pretrained_weights(det_fields, write_config, tmp_path):
    """Those that init_cfg names are gone long before a model is used."""
    checkpoint = save_weights(write_config(det_fields), tmp_path)
    det_fields['model']['backbone']['init_cfg'] = dict(type='Pretrained', checkpoint='nowhere.pth')
    assert Inferencer(write_config(det_fields, 'pretrained'), checkpoint, 'cpu').classes


def test_depth(cls_fields, write_config, tmp_path):
    config = write_config(cls_fields)
    checkpoint = save_weights(config, tmp_path)
    at_full = Inferencer(config, checkpoint, 'cpu').model.backbone
    assert Inferencer(config, checkpoint, 'cpu', depth=at_full.runnable_depths()[0]).model.backbone.active_depth \
        < at_full.active_depth
    with pytest.raises(ValueError, match='99'):
        Inferencer(config, checkpoint, 'cpu', depth=99)
    backbone = cls_fields['model']['backbone']
    cls_fields['model']['backbone'] = dict(type='VisionTransformer') | {
        key: value for key, value in backbone.items() if key not in ('type', *EXPAND_ARGUMENTS)}
    plain = write_config(cls_fields, 'plain')
    with pytest.raises(ValueError, match='depth=2 needs a grown backbone.*ImageClassifier of the config has none'):
        Inferencer(plain, save_weights(plain, tmp_path), 'cpu', depth=2)


def test_depth_inside_of_another_model(det_fields, write_config, tmp_path):
    """SoftTeacher holds two detectors, and takes the file of one."""
    detector = write_config(det_fields, 'detector')
    noted = save_weights(detector, tmp_path, depth=dict(backbone=[2, 2, 4, 2]))
    cfg = Config.fromfile(detector)
    cfg.model = dict(
        type='SoftTeacher', detector=cfg.model, semi_train_cfg=dict(freeze_teacher=True),
        data_preprocessor=dict(type='MultiBranchDataPreprocessor', data_preprocessor=dict(type='DetDataPreprocessor')))
    config = tmp_path / 'soft.py'
    cfg.dump(config)
    model = Inferencer(config, noted, 'cpu').model
    assert model.student.backbone.active_depth == model.teacher.backbone.active_depth == [2, 2, 4, 2]
    model = Inferencer(config, noted, 'cpu', depth=10).model
    assert sum(model.student.backbone.active_depth) == sum(model.teacher.backbone.active_depth) == 10


def test_a_picture_of_four_channels(cls_fields, write_config, tmp_path):
    """Of RGB and another: what can be shown is shown."""
    config = write_config(cls_fields)
    inferencer = Inferencer(config, save_weights(config, tmp_path), 'cpu')
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 4), np.uint8)
    sample = next(inferencer(image[..., :3]))
    assert (inferencer.draw(image, sample) == inferencer.draw(image[..., :3], sample)).all()


def test_two_keep_their_own_classes(det_fields, write_config, tmp_path):
    """Also where they draw, for which mmengine keeps one visualizer a name."""
    config = write_config(det_fields)
    inferencers = [Inferencer(config, save_weights(config, tmp_path, dataset_meta=dict(classes=names)), 'cpu')
                   for names in (['cat', 'dog'], ['red', 'green'])]
    for inferencer in inferencers:
        assert list(inferencer.draw_rgb.visualizer.dataset_meta['classes']) == inferencer.classes
    assert inferencers[0].classes == ['cat', 'dog']


def test_mixed_sizes(seg_fields, write_config, tmp_path):
    """Images that cannot be stacked, gray and coloured, in one call; results at their own sizes, in order."""
    config = write_config(seg_fields)
    checkpoint = save_weights(config, tmp_path)
    shapes = [(64, 64, 3), (64, 64, 3), (48, 80, 3), (64, 64), (64, 64, 3)]
    paths = []
    for index, shape in enumerate(shapes):
        paths.append(tmp_path / f'{index}.png')
        Image.fromarray(np.random.default_rng(index).integers(255, size=shape, dtype=np.uint8)).save(paths[-1])
    inferencer = Inferencer(config, checkpoint, 'cpu')
    together = [sample.pred_sem_seg.data for sample in inferencer(paths, batch_size=4)]
    assert [tuple(data.shape[1:]) for data in together] == [shape[:2] for shape in shapes]
    for path, data in zip(paths, together, strict=True):
        alone, = inferencer([path])
        assert (alone.pred_sem_seg.data == data).float().mean() > 0.999


def save_weights(config, folder, change=lambda state: state, **meta) -> str:
    """A checkpoint of the config's model with its random weights."""
    from mmengine.registry import MODELS, init_default_scope
    cfg = Config.fromfile(config)
    init_default_scope(cfg.default_scope)
    path = str(folder / 'weights.pth')
    torch.save(dict(state_dict=change(MODELS.build(cfg.model).state_dict()), meta=meta), path)
    return path


@pytest.mark.parametrize('meta, expected', [
    (dict(dataset_meta=dict(classes=('cat', 'dog'))), ['cat', 'dog']),
    (dict(CLASSES=['old', 'style']), ['old', 'style']),
    (dict(), ['from', 'config']),
])
def test_class_names(cls_fields, write_config, tmp_path, meta, expected):
    cls_fields['test_dataloader']['dataset']['metainfo'] = dict(classes=['from', 'config'])
    config = write_config(cls_fields)
    assert Inferencer(config, save_weights(config, tmp_path, **meta), 'cpu').classes == expected


def test_class_names_of_an_argument(cls_fields, write_config, tmp_path):
    """mmpretrain's data sets take them as a list or as a file."""
    (tmp_path / 'names.txt').write_text('from\nfile\n')
    for given in (['from', 'file'], str(tmp_path / 'names.txt')):
        cls_fields['test_dataloader']['dataset']['classes'] = given
        config = write_config(cls_fields)
        assert Inferencer(config, save_weights(config, tmp_path), 'cpu').classes == ['from', 'file']


def test_no_class_names(seg_fields, write_config, tmp_path):
    """Neither the checkpoint nor the config says them; mmseg's own inferencer takes those of Cityscapes."""
    del seg_fields['test_dataloader']['dataset']['metainfo']
    config = write_config(seg_fields)
    inferencer = Inferencer(config, save_weights(config, tmp_path), 'cpu')
    assert inferencer.classes[:2] == ['class 0', 'class 1']
    image = np.zeros((64, 64, 3), np.uint8)
    sample, = inferencer([image])
    assert inferencer.draw(image, sample).shape == (64, 64, 3)


@pytest.mark.parametrize('task, kind, classes', [
    ('cls', 'ImageNet', 1000), ('det', 'CocoDataset', 80), ('seg', 'ADE20KDataset', 150), ('seg', 'class', 150)])
def test_class_names_of_the_data_set(task, kind, classes, request, write_config, tmp_path):
    """As of a released config with a checkpoint that holds weights alone."""
    config = write_config(request.getfixturevalue(f'{task}_fields'))
    checkpoint = save_weights(config, tmp_path)
    torch.save(torch.load(checkpoint)['state_dict'], checkpoint)
    cfg = Config.fromfile(config)
    dataset = cfg.test_dataloader.dataset
    dataset.pop('metainfo', None)
    dataset.type = kind
    if kind == 'class':  # as new-style configs have it
        from mmseg.datasets import ADE20KDataset
        dataset.type = ADE20KDataset
    inferencer = Inferencer(cfg, checkpoint, 'cpu')
    assert len(set(inferencer.classes)) >= classes - 2 and 'class 0' not in inferencer.classes
    if task == 'seg':
        assert inferencer.classes[:2] == ['wall', 'building']
        assert inferencer.draw_rgb.visualizer.dataset_meta['palette'][0] == [120, 120, 120]


def test_gray_model_without_loader(cls_fields, write_config, tmp_path):
    """As of Fashion-MNIST: the data set holds its images, so the pipeline reads none."""
    cls_fields['model']['backbone']['in_channels'] = 1
    cls_fields['model']['data_preprocessor'] = dict(num_classes=2, mean=[127.], std=[60.])
    cls_fields['test_dataloader']['dataset']['pipeline'] = [dict(type='PackInputs')]
    config = write_config(cls_fields)
    inferencer = Inferencer(config, save_weights(config, tmp_path), 'cpu')
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / 'colour.png')
    sample, = inferencer([tmp_path / 'colour.png'])
    assert sample.pred_score.shape == (2, )
    assert inferencer.draw(tmp_path / 'colour.png', sample).shape == (224, 224, 3)


@pytest.mark.parametrize('change, words', [
    (lambda state: dict(list(state.items())[1:]), 'lacks: backbone.'),
    (lambda state: state | {'backbone.adapter.weight': torch.ones(1)}, 'the model lacks: backbone.adapter.weight'),
    (lambda state: {name: torch.cat([value] * 2) if 'head' in name else value for name, value in state.items()},
     'size mismatch'),
])
def test_checkpoint_that_does_not_fit(cls_fields, write_config, tmp_path, change, words):
    config = write_config(cls_fields)
    with pytest.raises(CheckpointError, match='does not fit the config') as error:
        Inferencer(config, save_weights(config, tmp_path, change), 'cpu')
    assert words in str(error.value)


class Attack:
    def __reduce__(self):
        return warnings.warn, ('code of the file ran', )


def test_runs_no_code_of_the_checkpoint(cls_fields, write_config, tmp_path):
    config = write_config(cls_fields)
    torch.save(dict(state_dict={}, meta=Attack()), tmp_path / 'evil.pth')
    with warnings.catch_warnings(record=True) as ran, pytest.raises(CheckpointError, match='would call'):
        Inferencer(config, tmp_path / 'evil.pth', 'cpu')
    assert not [warning for warning in ran if 'code of the file' in str(warning.message)]
    trusting = write_config(cls_fields | dict(trusted=True), 'trusting')
    with pytest.warns(match='code of the file ran'), pytest.raises(CheckpointError, match='does not fit'):
        Inferencer(trusting, tmp_path / 'evil.pth', 'cpu')


def test_broken_image(cls_fields, write_config, tmp_path):
    config = write_config(cls_fields)
    inferencer = Inferencer(config, save_weights(config, tmp_path), 'cpu')
    Image.fromarray(np.random.default_rng(0).integers(255, size=(64, 64, 3), dtype=np.uint8)).save(tmp_path / 'a.jpg')
    (tmp_path / 'cut.jpg').write_bytes((tmp_path / 'a.jpg').read_bytes()[:-500])
    (tmp_path / 'text.png').write_text('no image')
    for name in ('cut.jpg', 'text.png', 'missing.png'):
        with pytest.raises(ValueError, match=name):
            list(inferencer([tmp_path / name]))


@pytest.mark.parametrize('change, words', [
    (dict(default_scope='mmengine'), 'default_scope'),
    (dict(test_dataloader=None, val_dataloader=None), 'test_dataloader'),
])
def test_config_that_cannot_be_used(cls_fields, write_config, tmp_path, change, words):
    good = write_config(cls_fields)
    with pytest.raises(ValueError, match=words):
        Inferencer(write_config(cls_fields | change, 'bad'), save_weights(good, tmp_path), 'cpu')


def test_models_of_videos_are_refused(det_fields, write_config, tmp_path):
    cfg = Config.fromfile(write_config(det_fields))
    cfg.model = dict(type='MaskTrackRCNN', detector=cfg.model, tracker=dict(type='MaskTrackRCNNTracker'),
                     data_preprocessor=dict(type='TrackDataPreprocessor'))
    cfg.dump(tmp_path / 'tracker.py')
    weights = save_weights(tmp_path / 'tracker.py', tmp_path)
    with pytest.raises(ValueError, match='MaskTrackRCNN takes videos, and only images can be predicted here'):
        Inferencer(tmp_path / 'tracker.py', weights, 'cpu')


@pytest.mark.parametrize('task', ['cls', 'det', 'seg'])
def test_a_head_with_more_classes_than_the_data(task, request, write_config, tmp_path):
    """As where nobody corrected the number; what has no name is shown by its own."""
    fields = request.getfixturevalue(f'{task}_fields')
    model = fields['model']
    for head in dict(cls=['head'], det=['roi_head.bbox_head', 'roi_head.mask_head'], seg=['decode_head'])[task]:
        part = model
        for name in head.split('.'):
            part = part[name]
        part['num_classes'] = 7
    config = write_config(fields)
    names = ['cat', 'dog', 'cow'] if task == 'seg' else ['cat', 'dog']
    meta = dict(dataset_meta=dict(classes=names, palette=[(255, 0, 0), (0, 255, 0), (0, 0, 255)][:len(names)]))
    inferencer = Inferencer(config, save_weights(config, tmp_path, **meta), 'cpu')
    expected = [*names, *(f'class {label}' for label in range(len(names), 7))]
    assert inferencer.classes[:7] == expected
    image = np.random.default_rng(0).integers(255, size=(64, 64, 3), dtype=np.uint8)
    sample, = inferencer(image)
    found = inferencer.describe(sample)
    assert inferencer.draw(image, sample, score_thr=0.).ndim == 3
    if task == 'cls':
        assert {one['name'] for one in found['top5']} <= set(expected) and len(found['top5']) == 5
        assert describe(sample, names) == found
