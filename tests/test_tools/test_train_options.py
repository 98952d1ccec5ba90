"""Options of tools/train.py, and what it says where it cannot go on."""
import re
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

TOOLS = Path(__file__).resolve().parents[2] / 'tools'


def test_auto_scale_lr(cls_fields, write_config, tool, tmp_path):
    """Batch 4 where the learning rate was chosen for 16: a quarter of it."""
    tool('train.py', write_config(cls_fields), '--auto-scale-lr', '--cfg-options', 'train_cfg.max_epochs=1')
    checkpoint = torch.load(tmp_path / 'work_dirs/tiny/epoch_1.pth', map_location='cpu', weights_only=False)
    assert checkpoint['optimizer']['param_groups'][0]['lr'] == pytest.approx(0.0025)


def test_no_validate_and_work_dir(cls_fields, write_config, tool, tmp_path, capfd):
    tool('train.py', write_config(cls_fields), '--no-validate', '--work-dir', 'elsewhere', '--cfg-options',
         'train_cfg.max_epochs=1')
    assert (tmp_path / 'elsewhere/epoch_1.pth').exists() and not (tmp_path / 'work_dirs').exists()
    assert 'Epoch(val)' not in capfd.readouterr().out


def test_kept_config_names_nothing_of_ours(cls_fields, write_config, tool, tmp_path):
    """The config in the work directory can be run by the task library's own scripts."""
    tool('train.py', write_config(cls_fields), '--amp', '--cfg-options', 'train_cfg.max_epochs=1')
    kept = Config.fromfile(tmp_path / 'work_dirs/tiny/tiny.py')
    assert kept.optim_wrapper.type == 'AmpOptimWrapper'
    assert 'WholeCheckpointHook' not in kept.pretty_text


def refused(tool, capfd, *args) -> str:
    """The single line that a refused command ends with."""
    capfd.readouterr()
    with pytest.raises(SystemExit) as stop:
        tool(*args)
    assert stop.value.code == 2
    printed = capfd.readouterr().err
    lines = [line for line in printed.splitlines() if line.startswith('error: ')]
    assert len(lines) == 1 and 'Traceback' not in printed
    return lines[0]


def test_refused_options(cls_fields, write_config, tool, capfd, tmp_path):
    del cls_fields['auto_scale_lr']
    config = write_config(cls_fields)
    assert 'base_batch_size' in refused(tool, capfd, 'train.py', config, '--auto-scale-lr')
    assert '"Other"' in refused(tool, capfd, 'train.py', config, '--amp', '--cfg-options', 'optim_wrapper.type=Other')
    checkpoint = tmp_path / 'some.pth'
    torch.save({}, checkpoint)
    assert 'results.txt' in refused(tool, capfd, 'test.py', config, checkpoint, '--out', 'results.txt')
    assert '"tta_model"' in refused(tool, capfd, 'test.py', config, checkpoint, '--tta', '--cfg-options',
                                    'default_scope=mmseg')
    assert 'mmpretrain draws' in refused(tool, capfd, 'test.py', config, checkpoint, '--tta', '--show-dir', 'x')


@pytest.mark.parametrize(('option', 'said'), [
    ('scale=0', 'the config is refused: layers: scale=0 is not allowed; a depth can only grow'),
    ('layermap=cyclic', "on mmpretrain.VisionTransformer does not take layermap='cyclic' (did you mean layer_map?)"),
    ('frozen_stages=3', 'frozen_stages=3 is not allowed; give an integer from -1 (none) to 2'),
    ('adapter.type=LoRA adapter.r=8', 'beside type it takes rank, alpha'),
    ('init_cfg.type=Pretrained init_cfg.checkpont=a.pth', 'checkpont is none of checkpoint, prefix and trusted'),
    ('init_cfg=a.pth', "init_cfg='a.pth' is not allowed; give dict(type='Pretrained'"),
    ('init_cfg.type=Pretrained init_cfg.checkpoint=', "checkpoint='' names no file"),
])
def test_refused_arguments_of_the_backbone(option, said, cls_fields, write_config, tool, capfd):
    line = refused(tool, capfd, 'train.py', write_config(cls_fields), '--cfg-options',
                   *(f'model.backbone.{one}' for one in option.split()))
    assert said in line


def test_refused_arguments_of_our_constructor(cls_fields, write_config, tool, capfd):
    line = refused(tool, capfd, 'train.py', write_config(cls_fields), '--cfg-options',
                   'optim_wrapper.constructor=mmscalenet.LayerDecayOptimWrapperConstructor',
                   'optim_wrapper.paramwise_cfg.norm_decay_mult=0.')
    assert 'the config is refused: ' in line and 'norm_decay_mult' in line


def test_a_class_of_ours_without_our_scope(cls_fields, write_config, tool, capfd):
    cls_fields['model']['backbone']['type'] = 'ScaleNetDeiT'
    line = refused(tool, capfd, 'train.py', write_config(cls_fields))
    assert "type='ScaleNetDeiT' is a class of mmscalenet; write type='mmscalenet.ScaleNetDeiT' in the config" in line


@pytest.mark.parametrize(('script', 'part'), [('train.py', 'optim_wrapper'), ('test.py', 'test_evaluator')])
def test_missing_part_of_the_config(script, part, cls_fields, write_config, tool, capfd, tmp_path):
    del cls_fields[part]
    torch.save({}, tmp_path / 'some.pth')
    line = refused(tool, capfd, script, write_config(cls_fields), *['some.pth'] * (script == 'test.py'))
    assert f'the config has no {part}. Inherit what is missing' in line


def test_missing_config(shell, tmp_path):
    """In a process of its own, which imports what it needs: one line, and nothing else."""
    result = shell('bash', TOOLS / 'dist_train.sh', 'nowhere.py', 2, PYTHON=sys.executable,
                   PYTHON_EXEC=sys.executable)
    assert result.returncode != 0
    assert result.stderr.startswith('error: config "nowhere.py" does not exist.')
    assert len(result.stderr.splitlines()) == 1


def test_missing_base(write_config, tool, capfd, cls_fields):
    config = write_config(cls_fields)
    config.write_text("_base_ = './no_base.py'")
    assert 'no_base.py' in refused(tool, capfd, 'train.py', config)


@pytest.mark.parametrize('name, content, message', [
    ('results.json', '[]', 'holds a list and no settings'), ('empty.yaml', '', 'holds a NoneType and no settings'),
    ('cut.json', '{"model": ', 'cannot be read .JSONDecodeError'), ('cut.yaml', 'model: {', 'cannot be read'),
    ('notes.txt', 'model', 'cannot be read .TypeError: Unsupported format: txt')])
def test_what_is_no_config(name, content, message, tool, capfd, tmp_path):
    (tmp_path / name).write_text(content)
    line = refused(tool, capfd, 'train.py', name)
    assert re.search(f'config "{name}" {message}', line)


@pytest.mark.parametrize('content', [None, b'', b'<!DOCTYPE html>', 'cut'])
def test_missing_or_damaged_checkpoint(content, cls_fields, write_config, tool, capfd, tmp_path):
    path = tmp_path / 'weights.pth'
    if content == 'cut':
        torch.save(dict(state_dict=dict(weight=torch.zeros(1000))), path)
        content = path.read_bytes()[:-500]
    if content is not None:
        path.write_bytes(content)
    config = write_config(cls_fields)
    for args in (('train.py', config, '--resume', path), ('test.py', config, path)):
        line = refused(tool, capfd, *args)
        assert str(path) in line
        assert ('does not exist' in line) == (content is None)


def test_missing_pretrained_weights(cls_fields, write_config, tool, capfd, tmp_path):
    path = tmp_path / 'deit.pth'
    line = refused(tool, capfd, 'train.py', write_config(cls_fields), '--cfg-options',
                   'model.backbone.init_cfg.type=Pretrained', f'model.backbone.init_cfg.checkpoint={path}')
    assert str(path) in line and 'init_cfg.checkpoint' in line


@pytest.mark.parametrize(('task', 'key', 'source'), [
    ('cls', 'data_root=/nowhere/fashion_mnist', 'prepare_fashion_mnist.py'),
    ('cls', 'data_root=/nowhere/imagenet', 'image-net.org'),
    ('cls', 'data_root=/nowhere/mine', 'data_root=PATH'),
    ('det', 'data_root=/nowhere/coco', 'cocodataset.org'),
    ('det', 'data_prefix.img=/nowhere/coco/images/', 'cocodataset.org'),
    ('det', 'ann_file=/nowhere/mine.json', 'data_root=PATH'),
    ('seg', 'data_root=/nowhere/ade/ADEChallengeData2016', 'sceneparsing'),
    ('seg', 'ann_file=/nowhere/ade/list.txt', 'sceneparsing'),
])
def test_missing_data(task, key, source, request, write_config, tool, capfd):
    config = write_config(request.getfixturevalue(f'{task}_fields'))
    line = refused(tool, capfd, 'train.py', config, '--cfg-options', f'train_dataloader.dataset.{key}')
    assert '"/nowhere/' in line and source in line


def test_missing_data_found_by_a_worker(det_fields, write_config, tool, capfd):
    line = refused(tool, capfd, 'train.py', write_config(det_fields), '--cfg-options',
                   'train_dataloader.dataset.data_prefix.img=/nowhere/coco/', 'train_dataloader.num_workers=1')
    assert '"/nowhere/coco/' in line


def test_missing_fashion_mnist(cls_fields, write_config, tool, capfd, tmp_path):
    """mmpretrain's own class complains in its own way, by no FileNotFoundError."""
    cls_fields['train_dataloader']['dataset'] = dict(
        type='FashionMNIST', data_root=str(tmp_path / 'absent'), split='train', download=False, pipeline=[])
    line = refused(tool, capfd, 'train.py', write_config(cls_fields))
    assert str(tmp_path / 'absent') in line and 'prepare_fashion_mnist.py' in line


def test_unknown_error_keeps_its_traceback(cls_fields, write_config, tool):
    with pytest.raises(KeyError, match='NoSuchModel'):
        tool('train.py', write_config(cls_fields), '--cfg-options', 'model.type=NoSuchModel')
