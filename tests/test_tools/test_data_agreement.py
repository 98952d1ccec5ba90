"""Parts of a run's data that are good alone and do not agree are named before anything is computed."""
import json
import shutil
from types import SimpleNamespace

import pytest
from mmdet.engine.runner import TeacherStudentValLoop
from mmdet.evaluation import CocoMetric
from mmengine.evaluator import Evaluator
from mmpretrain.evaluation import Accuracy
from test_train_options import refused

from mmscalenet.engine import UsageError
from mmscalenet.engine.data_agreement import check_best, check_evaluator


@pytest.fixture
def other_annotations(data):
    """Write a changed copy of the detection set's annotation file."""

    def write(change) -> str:
        content = json.loads((data / 'det/annotations.json').read_text())
        change(content)
        path = data / 'det/other.json'
        path.write_text(json.dumps(content))
        return str(path)

    return write


def _drop_image(content: dict) -> None:
    content['images'] = content['images'][1:]


def _rename(content: dict) -> None:
    content['images'][2]['file_name'] = 'val/17.png'


def _swap_classes(content: dict) -> None:
    content['categories'] = content['categories'][::-1]


@pytest.mark.parametrize('change, said', [
    (_drop_image, 'it lacks 1 of 4 images, first the one with the id 0'),
    (_rename, 'the image with the id 2 is "val/17.png" in the one and'),
    (_swap_classes, 'has the classes in another order'),
])
def test_file_of_the_evaluator(change, said, fields, other_annotations, trained, write_config, tool, capfd):
    path = other_annotations(change)
    line = refused(tool, capfd, 'train.py', write_config(fields('det')), '--cfg-options',
                   f'val_evaluator.ann_file={path}')
    assert f'"{path}"' in line and said in line
    config, checkpoint = trained('det')
    line = refused(tool, capfd, 'test.py', config, checkpoint, '--cfg-options', f'test_evaluator.ann_file={path}')
    assert f'"{path}"' in line and said in line


def test_evaluated_images_that_the_data_lack(fields, other_annotations, write_config, tool, capfd):
    """It may be meant, but nobody would know why the figures are low."""
    path = other_annotations(_drop_image)
    fields = fields('det')
    fields['val_dataloader']['dataset']['ann_file'] = path
    tool('train.py', write_config(fields))
    log = capfd.readouterr().out
    assert 'annotations.json", has 1 images that the data set does not have' in log


@pytest.fixture
def split(fields, data):
    """A classifier's fields with folders of their own for training and validation."""
    fields = fields('cls')
    for name in ('train', 'val', 'test'):
        shutil.copytree(data / 'cls', data / name)
        fields[f'{name}_dataloader']['dataset'] = dict(fields[f'{name}_dataloader']['dataset'],
                                                       data_root=str(data / name))
    return fields


def test_validation_data_that_lack_the_first_class(split, data, write_config, tool, capfd):
    shutil.rmtree(data / 'val/class0')
    line = refused(tool, capfd, 'train.py', write_config(split))
    assert '"class1" is number 0 in the validation data and 1 in the training data' in line
    assert 'Missing there: "class0"' in line
    (data / 'val/class0').mkdir()  # as it says
    tool('train.py', write_config(split))


def test_validation_data_that_lack_the_last_class_are_right(split, data, write_config, tool):
    shutil.rmtree(data / 'val/class1')
    tool('train.py', write_config(split))


@pytest.mark.parametrize('name', ['.ipynb_checkpoints', 'a_note'])
def test_folder_that_is_no_class(name, split, data, write_config, tool, capfd):
    (data / 'train' / name).mkdir()
    line = refused(tool, capfd, 'train.py', write_config(split))
    assert 'model.head.num_classes=2, and the training data have 3 folders' in line and f'"{name}" may be none' in line
    split['model']['head']['num_classes'] = 3
    line = refused(tool, capfd, 'train.py', write_config(split))
    assert '"class0" is number 0 in the validation data and 1 in' in line and f'Missing there: "{name}"' in line


def test_head_with_more_classes_than_folders(split, write_config, tool, capfd):
    split['model']['head']['num_classes'] = 5
    tool('train.py', write_config(split))
    assert 'model.head.num_classes=5, and the training data have 2 folders' in capfd.readouterr().out


def test_test_data_that_lack_the_first_class(split, data, write_config, tool, capfd):
    config = write_config(split)
    tool('train.py', config)
    shutil.rmtree(data / 'test/class0')
    line = refused(tool, capfd, 'test.py', config, 'work_dirs/tiny/epoch_3.pth')
    assert '"class1" is number 0 in the test data and 1 in the data that the checkpoint was trained with' in line


def test_best_by_a_metric_that_never_comes(fields, write_config, tool, capfd, tmp_path):
    fields = fields('cls')
    for name, said in (('top1', "names begin with 'accuracy/'"),
                       ('accuracy/top5', "none of the metrics of val_evaluator: 'accuracy/top1'")):
        fields['default_hooks']['checkpoint'] = dict(type='CheckpointHook', save_best=name, rule='greater')
        line = refused(tool, capfd, 'train.py', write_config(fields))
        assert said in line and f"save_best='{name}'" in line
    fields['default_hooks']['checkpoint'] = dict(type='CheckpointHook', save_best='accuracy/top1')
    tool('train.py', write_config(fields))
    assert list(tmp_path.glob('work_dirs/tiny/best_*.pth'))


def test_best_of_a_teacher_and_its_student():
    """mmdet's loop validates both, and puts their names in front of the metrics."""
    loop = object.__new__(TeacherStudentValLoop)
    loop.evaluator = Evaluator(CocoMetric(metric='bbox'))
    runner = SimpleNamespace(val_loop=loop)
    check_best(runner, ['auto', 'teacher/coco/bbox_mAP', 'student/coco/bbox_mAP'])
    with pytest.raises(UsageError, match="begin with 'teacher/coco/' or 'student/coco/'"):
        check_best(runner, ['coco/bbox_mAP'])


def test_epoch_without_an_iteration(fields, write_config, tool, capfd):
    line = refused(tool, capfd, 'train.py', write_config(fields('cls')), '--cfg-options',
                   'train_dataloader.batch_size=16', 'train_dataloader.drop_last=True')
    assert 'the CustomDataset has 8 images, not one batch of 16' in line


def test_images_of_videos_are_those_of_the_data_set(tmp_path):
    """As trackers have them: a record is a video."""
    from mmdet.datasets import MOTChallengeDataset
    from mmdet.evaluation import CocoVideoMetric

    from mmscalenet.engine.coco_annotations import check_annotations
    check_annotations()
    images = [dict(id=i, video_id=1 + i // 4, frame_id=i % 4, file_name=f'{i}.jpg', width=8, height=8)
              for i in range(8)]
    annotations = [dict(id=1 + i, image_id=i, video_id=1 + i // 4, category_id=1, instance_id=1, bbox=[1, 1, 4, 4],
                        area=16, iscrowd=0, visibility=1., mot_conf=1.) for i in range(8)]
    whole = dict(videos=[dict(id=1, name='one'), dict(id=2, name='two')], images=images, annotations=annotations,
                 categories=[dict(id=1, name='red')])
    for name, ids in (('all', range(8)), ('first', range(4))):
        kept = dict(whole, videos=whole['videos'][:len(ids) // 4], images=[images[i] for i in ids],
                    annotations=[annotations[i] for i in ids])
        (tmp_path / f'{name}.json').write_text(json.dumps(kept))
    data, first = (MOTChallengeDataset(ann_file=str(tmp_path / f'{name}.json'), metainfo=dict(classes=('red', )),
                                       pipeline=[], test_mode=True) for name in ('all', 'first'))
    evaluator = Evaluator(CocoVideoMetric(ann_file=str(tmp_path / 'all.json'), metric='bbox'))
    assert check_evaluator(data, evaluator) == []
    assert 'has 4 images that the data set does not have' in check_evaluator(first, evaluator)[0]


def test_annotations_of_a_kind_of_their_own_are_passed_over(tmp_path):
    """Panoptic ones, which mmdet reads itself."""
    from mmdet.datasets.api_wrappers import COCOPanoptic
    file = tmp_path / 'panoptic.json'
    file.write_text(json.dumps(dict(
        images=[dict(id=1, file_name='1.jpg', width=4, height=4)], annotations=[],
        categories=[dict(id=1, name='cat', isthing=1)])))
    metric = Accuracy()
    metric._coco_api = COCOPanoptic(str(file))
    assert check_evaluator(None, Evaluator(metric)) == []
