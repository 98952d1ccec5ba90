"""Checkpoints that would run code: every way into a runner refuses them with one line."""
import os

import pytest
import torch
from test_train_options import refused

TRUSTED = ('--cfg-options', 'trusted=True')


class Attack:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder, )


@pytest.fixture
def attack(cls_base, tmp_path):
    """A file with weights that fit which runs code, and the folder that then exists."""
    path, made = tmp_path / 'attack.pth', tmp_path / 'made'
    head = {'head.layers.head.weight': torch.zeros(2, 16), 'head.layers.head.bias': torch.zeros(2)}
    torch.save(dict(state_dict={**cls_base, **head}, meta=dict(epoch=0, iter=0, note=Attack(made))), path)
    return path, made


def arguments(way: str, path) -> tuple:
    return {
        'test': ('test.py', path),
        'resume': ('train.py', '--resume', path),
        'load_from': ('train.py', '--cfg-options', f'load_from={path}'),
        'head': ('train.py', '--cfg-options', 'model.head.init_cfg.type=Pretrained',
                 f'model.head.init_cfg.checkpoint={path}'),
        'backbone': ('train.py', '--cfg-options', 'model.backbone.init_cfg.type=Pretrained',
                     f'model.backbone.init_cfg.checkpoint={path}'),
    }[way]


@pytest.mark.parametrize('way', ['test', 'resume', 'load_from', 'head', 'backbone'])
def test_refused(way, attack, cls_fields, write_config, tool, capfd):
    path, made = attack
    script, *args = arguments(way, path)
    line = refused(tool, capfd, script, write_config(cls_fields), *args)
    assert f'{path}: refused' in line and 'mkdir' in line and 'trusted=True' in line
    assert not made.exists()


def test_trusted(attack, cls_fields, write_config, tool):
    path, made = attack
    tool('test.py', write_config(cls_fields), path, *TRUSTED)
    assert made.exists()


def test_a_config_inside_is_not_run_when_resuming(cls_fields, write_config, tool, tmp_path):
    """mmengine takes meta['config'] for a config file in Python; its runners name it 'cfg' and do not run it."""
    config, made = write_config(cls_fields), tmp_path / 'made'
    tool('train.py', config, '--cfg-options', 'train_cfg.max_epochs=1')
    path = tmp_path / 'work_dirs/tiny/epoch_1.pth'
    content = torch.load(path, weights_only=False)
    content['meta']['config'] = f'__import__("os").mkdir({str(made)!r})'
    torch.save(content, path)
    tool('train.py', config, '--resume', path, '--cfg-options', 'train_cfg.max_epochs=2')
    assert not made.exists() and (tmp_path / 'work_dirs/tiny/epoch_2.pth').exists()
    tool('train.py', config, '--resume', path, '--cfg-options', 'train_cfg.max_epochs=2', 'trusted=True')
    assert made.exists()  # so the attack is a real one
