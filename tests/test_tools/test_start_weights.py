"""What a run starts from: ``load_from`` and tools/test.py fit the backbone as ``init_cfg`` does, or refuse."""
import copy
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner.checkpoint import load_state_dict
from mmpretrain.models import VisionTransformer
from safetensors.torch import save_file
from test_train_options import refused

from mmscalenet.apis.loading import load_model
from mmscalenet.checkpoints import CheckpointError
from mmscalenet.engine.hooks import StartWeightsHook

EMA = dict(type='EMAHook')


def weights(path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=False)['state_dict']


def base_of(fields: dict) -> dict:
    backbone = {**fields['model']['backbone'], 'scale': 1, 'adapter': None}
    return {**fields, 'model': {**fields['model'], 'backbone': backbone}}


@pytest.mark.parametrize('name, last', [('cls', 'epoch_3.pth'), ('det', 'epoch_1.pth'), ('seg', 'iter_2.pth')])
def test_a_trained_base_is_grown(name, last, request, write_config, tool, tmp_path, capfd):
    fields = request.getfixturevalue(f'{name}_fields')
    tool('train.py', write_config(base_of(fields), 'base'), '--no-validate')
    base = weights(tmp_path / 'work_dirs/base' / last)
    capfd.readouterr()

    grown = {**fields, 'custom_hooks': [EMA], 'load_from': str(tmp_path / 'work_dirs/base' / last)}
    tool('train.py', write_config(grown, 'grown'), '--no-validate', '--cfg-options', 'optim_wrapper.optimizer.lr=0.')
    log = ''.join(capfd.readouterr())
    assert 'tensors loaded' in log and 'newly initialised: ' in log
    assert 'do not match exactly' not in log  # mmengine's list of every adapter
    result = weights(tmp_path / 'work_dirs/grown' / last)  # the average
    assert set(base) < set(result) and all('.positions.' in key for key in set(result) - set(base))
    for key, value in base.items():
        if 'num_batches' not in key and 'running' not in key:
            assert value.equal(result[key]), key


def test_other_windows_and_classes(det_fields, write_config, tool, tmp_path, capfd):
    tool('train.py', write_config(base_of(det_fields), 'base'), '--no-validate')
    path = tmp_path / 'work_dirs/base/epoch_1.pth'
    capfd.readouterr()
    tool('train.py', write_config(det_fields, 'grown'), '--no-validate', '--cfg-options', f'load_from={path}',
         'model.backbone.window_size=5', 'model.roi_head.bbox_head.num_classes=4')
    log = ''.join(capfd.readouterr())
    assert 'resized: ' in log and 'size mismatch for roi_head.bbox_head.fc_cls.weight' in log
    assert 'size mismatch for backbone' not in log


@pytest.mark.parametrize('wrapper', ['model', 'state_dict_ema'])
def test_a_whole_classifier_under_another_name(wrapper, cls_fields, write_config, tool, tmp_path):
    """Head and all, for load_from and for a test."""
    tool('train.py', write_config(base_of(cls_fields), 'base'), '--no-validate')
    base = weights(tmp_path / 'work_dirs/base/epoch_3.pth')
    torch.save({wrapper: base}, tmp_path / 'base.pth')
    config = write_config(cls_fields)
    tool('train.py', config, '--no-validate', '--cfg-options', 'load_from=base.pth', 'optim_wrapper.optimizer.lr=0.',
         'train_cfg.max_epochs=1')
    result = weights(tmp_path / 'work_dirs/tiny/epoch_1.pth')
    assert all(value.equal(result[key]) for key, value in base.items())
    tool('test.py', config, 'base.pth')


def test_lora_model_keeps_its_own_tensors_alone(cls_fields, write_config, tool, tmp_path, capfd):
    """mmpretrain's LoRAModel loads the backbone at its start, and no checkpoint of it holds one."""
    tool('train.py', write_config(base_of(cls_fields), 'base'), '--no-validate')
    start = dict(type='Pretrained', checkpoint=str(tmp_path / 'work_dirs/base/epoch_3.pth'))
    cls_fields['model']['backbone'] = dict(
        type='LoRAModel', alpha=4, rank=2, targets=[dict(type='.*qkv')],
        module=dict(cls_fields['model']['backbone'], gate=0., init_cfg=start))
    config = write_config(cls_fields)
    tool('train.py', config, '--no-validate')
    path = tmp_path / 'work_dirs/tiny/epoch_3.pth'
    kept = weights(path)
    assert kept and all('.lora_' in name or name.startswith('head.') for name in kept)
    capfd.readouterr()
    tool('test.py', config, path)
    assert 'accuracy/top1' in capfd.readouterr().out
    tool('train.py', config, '--no-validate', '--resume', '--cfg-options', 'train_cfg.max_epochs=4')
    assert 'resumed epoch: 3' in capfd.readouterr().out
    assert not all(value.equal(kept[key]) for key, value in weights(path.with_name('epoch_4.pth')).items())


@pytest.mark.parametrize('wrap', [dict, lambda state: dict(model=state)])
def test_a_backbone_alone(wrap, cls_fields, cls_base, write_config, tool, tmp_path):
    torch.save(wrap(cls_base), tmp_path / 'base.pth')
    tool('train.py', write_config(cls_fields), '--no-validate', '--cfg-options', 'load_from=base.pth',
         'optim_wrapper.optimizer.lr=0.', 'train_cfg.max_epochs=1')
    result = weights(tmp_path / 'work_dirs/tiny/epoch_1.pth')
    assert all(value.equal(result[f'backbone.{key}']) for key, value in cls_base.items())


@pytest.mark.parametrize('script', ['train.py', 'test.py'])
def test_what_does_not_fit_is_refused(script, cls_fields, write_config, tool, tmp_path, capfd):
    """mmengine would warn and go on with random weights."""
    arch = {**cls_fields['model']['backbone']['arch'], 'num_layers': 3}
    other = VisionTransformer(img_size=32, patch_size=8, arch=arch).state_dict()
    torch.save(dict(state_dict={f'backbone.{key}': value for key, value in other.items()}), tmp_path / 'other.pth')
    arguments = ('other.pth', ) if script == 'test.py' else ('--cfg-options', 'load_from=other.pth')
    line = refused(tool, capfd, script, write_config(cls_fields), *arguments)
    assert 'other.pth does not fit ScaleNetDeiT' in line and 'the file has 3 blocks' in line


def test_a_test_needs_every_weight(cls_fields, cls_base, write_config, tool, tmp_path, capfd):
    """mmengine would log what is missing, and print the accuracy of a random head or of half of the model."""
    grown, plain = write_config(cls_fields, 'grown'), copy.deepcopy(cls_fields)
    plain['model']['backbone'].update(type='VisionTransformer')
    del plain['model']['backbone']['scale']
    plain = write_config(plain, 'plain')
    tool('train.py', grown, '--no-validate', '--cfg-options', 'train_cfg.max_epochs=1')
    path = tmp_path / 'work_dirs/grown/epoch_1.pth'
    assert 'of a grown model, and the config has no place for' in refused(tool, capfd, 'test.py', plain, path)
    torch.save(cls_base, tmp_path / 'backbone.pth')
    assert 'It lacks head.layers.head.weight' in refused(tool, capfd, 'test.py', grown, 'backbone.pth')
    assert 'size mismatch for head' in refused(tool, capfd, 'test.py', grown, path, '--cfg-options',
                                               'model.head.num_classes=5')
    compiled = {f'_orig_mod.{key}': value for key, value in weights(path).items()}
    torch.save(dict(state_dict=compiled), tmp_path / 'compiled.pth')
    capfd.readouterr()
    # the config that a resumed run leaves says so, and a test needs no data to train with
    tool('test.py', grown, 'compiled.pth', '--cfg-options', 'resume=True', 'train_dataloader.dataset.data_root=none')
    assert 'accuracy/top1' in capfd.readouterr().out


@pytest.mark.parametrize('name', ['head.layers.head.weight', 'backbone.layers.0.ln1.weight'])
def test_whole_numbers_are_no_weights(name, cls_fields, write_config, tool, tmp_path, capfd):
    """load_state_dict would turn them into floats, whatever loads them."""
    config = write_config(cls_fields)
    tool('train.py', config, '--no-validate', '--cfg-options', 'train_cfg.max_epochs=1')
    path = tmp_path / 'work_dirs/tiny/epoch_1.pth'
    content = torch.load(path, weights_only=False)
    content['state_dict'][name] = content['state_dict'][name].to(torch.int8)
    torch.save(content, path)
    load = 'load_from=work_dirs/tiny/epoch_1.pth'
    for command in (['test.py', config, path], ['train.py', config, '--resume', '--no-validate'],
                    ['train.py', config, '--work-dir', 'new', '--no-validate', '--cfg-options', load]):
        line = refused(tool, capfd, *command)
        assert 'epoch_1.pth' in line and 'no weights' in line and name.split('backbone.')[-1] in line
    with pytest.raises(CheckpointError, match='does not fit the config: no weights'):
        load_model(Config.fromfile(config), path)


@pytest.mark.parametrize('change', ['model.backbone.scale=3', 'model.backbone.adapter.ratio=0.5'])
def test_another_backbone_is_not_resumed(change, cls_fields, write_config, tool, tmp_path, capfd):
    cls_fields['model']['backbone']['adapter'] = dict(type='ParallelAdapter')
    config = write_config(cls_fields)
    tool('train.py', config, '--no-validate', '--cfg-options', 'train_cfg.max_epochs=1')
    line = refused(tool, capfd, 'train.py', config, '--resume', '--no-validate', '--cfg-options', change)
    assert 'was written with another backbone' in line and 'start a new run with load_from' in line


def test_a_detector_inside_of_another_model(det_fields, write_config, tool, tmp_path):
    """SoftTeacher gives the names of a plain detector to its student and its teacher by itself."""
    config = write_config(base_of(det_fields), 'base')
    tool('train.py', config, '--no-validate')
    path = tmp_path / 'work_dirs/base/epoch_1.pth'
    base = weights(path)
    init_default_scope('mmdet')
    model = MODELS.build(dict(
        type='SoftTeacher', detector=Config.fromfile(write_config(det_fields)).model,
        semi_train_cfg=dict(freeze_teacher=True),
        data_preprocessor=dict(type='MultiBranchDataPreprocessor', data_preprocessor=dict(type='DetDataPreprocessor'))))
    runner = SimpleNamespace(model=model, _resume=False, _load_from=str(path))
    checkpoint = dict(state_dict=base)
    StartWeightsHook().after_load_checkpoint(runner, checkpoint)
    load_state_dict(model, checkpoint['state_dict'])
    result = model.state_dict()
    for part in 'student', 'teacher':
        assert all(value.equal(result[f'{part}.{key}']) for key, value in base.items() if 'data_prep' not in key)


@pytest.mark.parametrize('ending', ['pth', 'safetensors'])
def test_weights_alone_are_not_resumed(ending, cls_fields, write_config, tool, tmp_path, capfd):
    config = write_config(dict(cls_fields, param_scheduler=[dict(type='ConstantLR')]))
    tool('train.py', config, '--no-validate', '--cfg-options', 'train_cfg.max_epochs=1')
    state, path = weights(tmp_path / 'work_dirs/tiny/epoch_1.pth'), tmp_path / f'weights.{ending}'
    save_file(state, path) if ending == 'safetensors' else torch.save(dict(state_dict=state), path)
    line = refused(tool, capfd, 'train.py', config, '--resume', path, '--no-validate', '--work-dir', 'other')
    assert f'{path} holds weights alone' in line and 'give it as load_from' in line
