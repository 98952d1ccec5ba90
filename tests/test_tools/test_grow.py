"""tools/grow.py: a short config and a checkpoint that start as the base, for all tasks, and what it refuses."""
import copy
import os
import pickle
import re
import shlex
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from test_new_style_config import CONFIG
from test_train_options import refused
from test_unsafe_checkpoints import Attack

SWIN = dict(type='SwinTransformer', embed_dims=8, depths=[2, 2, 2, 2], num_heads=[1, 1, 2, 2], window_size=4,
            out_indices=(0, 1, 2, 3))
DEIT = dict(type='VisionTransformer', img_size=32, patch_size=8,
            arch=dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32))
LAST = dict(cls='epoch_1.pth', det='epoch_1.pth', seg='iter_2.pth')


def plain(fields: dict, backbone: dict) -> dict:
    """A config on a backbone of its library that knows nothing of us, saving once before its end."""
    fields = copy.deepcopy(fields)
    keep = {key: value for key, value in fields['model']['backbone'].items() if key == '_delete_'}
    fields['model']['backbone'] = {**keep, **backbone}
    del fields['custom_imports']
    if fields['default_scope'] != 'mmseg':
        fields['train_cfg'] = dict(by_epoch=True, max_epochs=2)
    else:
        fields['train_cfg'].update(max_iters=4)
    fields['param_scheduler'] = dict(type='CosineAnnealingLR', by_epoch=fields['default_scope'] != 'mmseg')
    return fields


@pytest.fixture
def base(cls_fields, write_config, tool, tmp_path) -> Path:
    """Work directory of a trained classifier on mmpretrain's own ViT."""
    tool('train.py', write_config(plain(cls_fields, DEIT), 'base'), '--no-validate')
    return tmp_path / 'work_dirs/base'


def tensors(value: object) -> list[torch.Tensor]:
    """All tensors in predictions, of masks as RLE their text."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = [value[key] for key in sorted(value)]
    return [tensor for entry in value for tensor in tensors(entry)] if isinstance(value, (list, tuple)) else []


def predictions(tool, config: object, checkpoint: object) -> list[torch.Tensor]:
    tool('test.py', config, checkpoint, '--out', 'predictions.pkl', '--work-dir', 'tested')
    with open('predictions.pkl', 'rb') as file:
        return tensors(pickle.load(file))


def commands(printed: str) -> list[list[str]]:
    """Arguments of the trainings that the tool says to go on with."""
    return [shlex.split(line)[2:] for line in printed.splitlines() if line.startswith('    python ')]


@pytest.mark.parametrize('name, backbone, options', [
    ('cls', DEIT, []),
    ('cls', dict(DEIT, type='DistilledVisionTransformer'), []),
    ('det', SWIN, ['sdpa=False']),
    ('seg', SWIN, ['sdpa=False']),
])
def test_starts_as_the_base_and_trains_on(name, backbone, options, request, write_config, tool, tmp_path, capfd):
    fields = plain(request.getfixturevalue(f'{name}_fields'), backbone)
    if 'Distilled' in backbone['type']:
        fields['model']['head'].update(type='DeiTClsHead')
    config, checkpoint = write_config(fields, 'base'), tmp_path / 'work_dirs/base' / LAST[name]
    tool('train.py', config, '--no-validate')
    expected = predictions(tool, config, checkpoint)
    capfd.readouterr()
    options = ['--options', *options] if options else []
    tool('grow.py', config, checkpoint, '--gate', 0, '--out', 'deep/er', '--shape', 64, *options)
    printed = capfd.readouterr().out
    assert re.search(r'\n(layers|stages.3.blocks) +3 +1 +yes ', printed)
    rows = [line.strip('| ').split(' | ') for line in printed.splitlines() if line.startswith('|')]
    parameters, adds = ([float(row[column]) for row in rows[2:]] for column in (2, 3))
    assert parameters[1] > parameters[0] and adds[1] >= adds[0]

    result = predictions(tool, 'deep/er/base_grown.py', 'deep/er/base_grown.pth')
    assert len(result) == len(expected) > 0
    assert all(ours.equal(theirs) for ours, theirs in zip(result, expected, strict=True))

    start, go_on = commands(printed)
    capfd.readouterr()
    tool('train.py', *start, '--no-validate', '--work-dir', 'new')
    assert f'Load checkpoint from {tmp_path}/deep/er/base_grown.pth' in capfd.readouterr().out
    tool('train.py', *go_on, '--no-validate', '--work-dir', 'same')
    assert f'resumed epoch: {0 if name == "seg" else 1}, iter: 2' in capfd.readouterr().out
    end = 'iter_4.pth' if name == 'seg' else 'epoch_2.pth'
    assert sorted(path.name for path in (tmp_path / 'same').glob('*.pth')) == [end]


def test_the_config_is_short(cls_fields, write_config, tool, tmp_path):
    """Beside the backbone nothing differs from the base, whatever that inherits; it may be moved with its base."""
    fields = plain(cls_fields, dict(DEIT, init_cfg=dict(type='Pretrained', checkpoint='gone.pth')))
    fields['custom_imports'] = dict(imports='json', allow_failed_imports=True)
    (tmp_path / 'mine').mkdir()
    write_config(fields, 'mine/first')
    (tmp_path / 'mine/second.py').write_text("_base_ = './first.py'\nresume = True\nwork_dir = 'mine/dir'\n")
    tool('train.py', 'mine/second.py', '--no-validate', '--cfg-options', 'model.backbone.init_cfg=None', 'resume=False')
    tool('grow.py', 'mine/second.py', 'mine/dir/epoch_1.pth', '--scale', '1.5', '--layer-map', 'interleaved',
         '--adapter', 'LoRA', '--options', 'adapter.rank=2', 'unshare=norms', '--out', 'mine/grown')
    text = Path('mine/grown/second_grown.py').read_text()
    assert len(text.splitlines()) < 20
    os.rename('mine', 'moved')
    base, grown = (Config.fromfile(f'moved/{path}').to_dict() for path in ('second.py', 'grown/second_grown.py'))
    assert grown.pop('load_from') == str(tmp_path / 'moved/grown/second_grown.pth')
    assert grown.pop('work_dir') == './work_dirs/second_grown' and base.pop('work_dir')
    assert grown.pop('resume') is False and base.pop('resume')
    assert grown.pop('custom_imports') == dict(imports=['json', 'mmscalenet'], allow_failed_imports=True)
    base.pop('custom_imports')
    assert grown['model'].pop('backbone') == dict(
        base['model'].pop('backbone'), type='mmscalenet.ScaleNetDeiT', init_cfg=None, scale=1.5,
        layer_map='interleaved', adapter=dict(type='LoRA', rank=2), unshare='norms')
    assert grown == base
    tool('train.py', 'moved/grown/second_grown.py', '--no-validate', '--cfg-options', 'train_cfg.max_epochs=1')


def test_work_directory(base, tool, tmp_path, capfd):
    """Its newest config, which holds all that the run was given on the command line."""
    old = (base / 'base.py').read_text()
    (base / 'older.py').write_text(old)
    os.utime(base / 'older.py', (1, 1))
    tool('grow.py', 'work_dirs/base', base / 'epoch_1.pth', '--out', 'grown')
    cfg = Config.fromfile('grown/base_grown.py')
    assert cfg.model.backbone.scale == 2 and 'adapter' not in cfg.model.backbone
    assert cfg.work_dir == './work_dirs/base_grown'
    assert (base / 'base.py').read_text() == old and len(list(base.glob('*.py'))) == 2


def test_a_base_of_ours(cls_fields, write_config, tool, tmp_path):
    """scale=1 and no adapters: grown with the usual adapters, or none."""
    cls_fields['model']['backbone'].update(scale=1, adapter=None)
    config = write_config(cls_fields, 'base')
    tool('train.py', config, '--no-validate', '--cfg-options', 'train_cfg.max_epochs=1')
    tool('grow.py', config, 'work_dirs/base/epoch_1.pth', '--out', 'usual')
    assert Config.fromfile('usual/base_grown.py').model.backbone.adapter == dict(type='ParallelAdapter')
    tool('grow.py', config, 'work_dirs/base/epoch_1.pth', '--adapter', 'none', '--out', 'none')
    state = torch.load('none/base_grown.pth', weights_only=False)['state_dict']
    assert not any('.adapter.' in key for key in state)
    tool('test.py', 'none/base_grown.py', 'none/base_grown.pth')


def test_config_that_a_library_ships(tool, tmp_path):
    path = 'mmpretrain::deit/deit-tiny_4xb256_in1k.py'
    cfg = Config.fromstring(f'_base_ = {path!r}', '.py')
    init_default_scope('mmpretrain')
    torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict()), 'tiny.pth')
    tool('grow.py', path, 'tiny.pth', '--out', 'grown')
    text = Path('grown/deit-tiny_4xb256_in1k_grown.py').read_text()
    assert text.startswith(f'_base_ = {path!r}\n')
    cfg = Config.fromfile('grown/deit-tiny_4xb256_in1k_grown.py')
    model = MODELS.build(cfg.model)
    model.load_state_dict(torch.load('grown/deit-tiny_4xb256_in1k_grown.pth', weights_only=False)['state_dict'])


def test_backbone_of_another_library(det_fields, write_config, tool, tmp_path):
    """mmpretrain's Swin in a detector."""
    arch = dict(embed_dims=8, depths=[2, 2, 2, 2], num_heads=[1, 1, 2, 2])
    backbone = dict(type='mmpretrain.SwinTransformer', arch=arch, window_size=4, img_size=64, pad_small_map=True,
                    out_indices=(0, 1, 2, 3))
    fields = plain(det_fields, backbone)
    fields['custom_imports'] = dict(imports=['mmpretrain.models'], allow_failed_imports=False)
    config = write_config(fields, 'base')
    tool('train.py', config, '--no-validate', '--cfg-options', 'train_cfg.max_epochs=1')
    tool('grow.py', config, 'work_dirs/base/epoch_1.pth', '--scale', 1, 1, 2, 1, '--out', 'grown', '--shape', 64)
    cfg = Config.fromfile('grown/base_grown.py')
    assert cfg.model.backbone.base == 'mmpretrain.SwinTransformer' and cfg.model.backbone.scale == [1, 1, 2, 1]
    tool('train.py', 'grown/base_grown.py', '--no-validate', '--cfg-options', 'train_cfg.max_epochs=1')


def test_config_of_classes(tiny_data, tool, tmp_path, capfd):
    """A plain config cannot inherit from it; the copy in its work directory is plain."""
    text = CONFIG.replace('type=ScaleNetSwin, scale=2,', 'type=SwinTransformer,').replace(
        'from mmscalenet.models import ScaleNetSwin', 'from mmpretrain.models.backbones import SwinTransformer')
    (tmp_path / 'classes.py').write_text(text.format(data=str(tiny_data / 'cls')))
    tool('train.py', 'classes.py', '--no-validate')
    line = refused(tool, capfd, 'grow.py', 'classes.py', 'work_dirs/classes/epoch_1.pth', '--out', 'grown')
    assert "newer style" in line and 'Give the work directory' in line
    tool('grow.py', 'work_dirs/classes', 'work_dirs/classes/epoch_1.pth', '--out', 'grown')
    tool('train.py', 'grown/classes_grown.py', '--no-validate')


@pytest.mark.parametrize('change, said', [
    (lambda checkpoint: checkpoint.pop('optimizer'), 'weights.pth holds no optimizer'),
    (lambda checkpoint: checkpoint['meta'].update(epoch=2, iter=4), 'the run is at its end'),
    (lambda checkpoint: checkpoint['meta'].update(cfg="optim_wrapper = dict(optimizer=dict(type='Lion'))"),
     'the run was trained with Lion'),
])
def test_a_run_that_cannot_go_on(change, said, base, tool, tmp_path, capfd):
    """Its weights can all the same."""
    checkpoint = torch.load(base / 'epoch_1.pth', weights_only=False)
    change(checkpoint)
    torch.save(checkpoint, 'weights.pth')
    capfd.readouterr()
    tool('grow.py', base, 'weights.pth', '--out', 'grown')
    printed = capfd.readouterr().out
    assert f'The same run cannot go on with --resume: {said}' in printed
    (start, ) = commands(printed)
    tool('train.py', *start, '--no-validate')


def test_nothing_is_overwritten(base, tool, tmp_path, capfd):
    tool('grow.py', base, base / 'epoch_1.pth', '--out', 'grown')
    config, weights = (Path(f'grown/base_grown.{ending}') for ending in ('py', 'pth'))
    before = weights.read_bytes(), config.read_bytes()
    line = refused(tool, capfd, 'grow.py', base, base / 'epoch_1.pth', '--out', 'grown', '--scale', 3)
    assert '"grown/base_grown.py" exists already' in line and '--out' in line
    config.unlink()
    assert '"grown/base_grown.pth" exists already' in refused(tool, capfd, 'grow.py', base, base / 'epoch_1.pth',
                                                              '--out', 'grown')
    assert weights.read_bytes() == before[0] and not config.exists()


def test_refused(base, tool, tmp_path, capfd):
    """One line, and nothing is written."""
    inherits = "_base_ = './work_dirs/base/base.py'\n"
    good = base / 'epoch_1.pth'
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'half.pth').write_bytes(good.read_bytes()[:-100])
    for name, text in dict(
            resnet=inherits + "model = dict(backbone=dict(type='ResNet'))",
            ours=inherits + "model = dict(backbone=dict(type='mmscalenet.ScaleNetDeiT', scale=2))",
            headless="model = dict(type='SoftTeacher', detector=dict(backbone=dict(type='VisionTransformer')))",
            wider=inherits + 'model = dict(backbone=dict(arch=dict(embed_dims=32)), head=dict(in_channels=32))',
    ).items():
        (tmp_path / f'{name}.py').write_text(text)
    for arguments, said in {
        ('empty', good): 'the work directory "empty" holds no config',
        ('none.py', good): 'config "none.py" does not exist',
        ('mmdet::none.py', good): 'config "mmdet::none.py" does not exist',
        (base, 'none.pth'): 'checkpoint "none.pth" does not exist',
        (base, 'half.pth'): 'half.pth" (',
        ('resnet.py', good): 'the backbone ResNet of the config cannot be grown by this command',
        ('ours.py', good): 'is grown already, or has adapters',
        ('headless.py', good): 'no model.backbone',
        ('wider.py', good): 'epoch_1.pth does not fit ScaleNetDeiT',
        (base, good, '--scale', '0.5'): 'scale=0.5 is not allowed',
        (base, good, '--scale', 'two'): "scale='two' is not a number",
        (base, good, '--layer-map', 'spiral'): "layer_map='spiral' is unknown",
        (base, good, '--adapter', 'Nonesuch'): "adapter={'type': 'Nonesuch'} is not allowed",
        (base, good, '--options', 'depths=3'): 'does not take depths=3',
        (base, good, '--shape', '1', '2', '3'): '--shape [1, 2, 3] is not allowed',
    }.items():
        line = refused(tool, capfd, 'grow.py', *arguments, '--out', 'grown')
        assert said in line, arguments
        assert not Path('grown').exists(), arguments
    assert '--out "half.pth" is a file' in refused(tool, capfd, 'grow.py', base, good, '--out', 'half.pth')


def test_a_checkpoint_that_would_run_code(base, tool, tmp_path, capfd):
    checkpoint = torch.load(base / 'epoch_1.pth', weights_only=False)
    torch.save(dict(checkpoint, note=Attack(tmp_path / 'made')), 'attack.pth')
    assert 'would call posix.mkdir' in refused(tool, capfd, 'grow.py', base, 'attack.pth', '--out', 'grown')
    assert not Path('made').exists() and not Path('grown').exists()
    tool('grow.py', base, 'attack.pth', '--out', 'grown', '--trusted')
    assert Path('made').exists()
    tool('train.py', 'grown/base_grown.py', '--no-validate', '--cfg-options', 'train_cfg.max_epochs=1')


def test_from_another_folder(base, shell, tool, tmp_path):
    """As a process of its own; the command it prints is right from where it ran."""
    tools = Path(__file__).resolve().parents[2] / 'tools'
    result = shell(sys.executable, tools / 'grow.py', base, base / 'epoch_1.pth', '--out', 'a folder')
    assert result.returncode == 0, result.stderr
    line = next(line for line in result.stdout.splitlines() if '--resume' in line)
    _, script, *arguments = shlex.split(line)
    assert (tmp_path / script).resolve() == tools / 'train.py'
    tool('train.py', *arguments, '--no-validate')
    assert (tmp_path / 'work_dirs/base_grown/epoch_2.pth').exists()
