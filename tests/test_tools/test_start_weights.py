"""What a run starts from: ``load_from`` and tools/test.py fit the backbone as ``init_cfg`` does, or refuse."""
import pytest
import torch
from mmpretrain.models import VisionTransformer
from test_train_options import refused

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


def test_a_backbone_alone(cls_fields, cls_base, write_config, tool, tmp_path):
    torch.save(cls_base, tmp_path / 'base.pth')
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
