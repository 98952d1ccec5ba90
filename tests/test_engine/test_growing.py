"""A run that is grown in its middle goes on as it would have: weights, moments, schedules, iteration."""
import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from mmscalenet.checkpoints import CheckpointError
from mmscalenet.engine.growing import grow_checkpoint

@HOOKS.register_module(force=True)
class SameDraws(Hook):
    """A detector samples regions: the same ones in every run."""

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        torch.manual_seed(runner.iter)


FROZEN = dict(lr_mult=0., decay_mult=0.)


def as_base(fields: dict) -> dict:
    return changed(fields, scale=1, adapter=None)


def changed(fields: dict, **options) -> dict:
    fields = copy.deepcopy(fields)
    fields['model']['backbone'].update(options)
    return fields


def saved(path) -> dict:
    return torch.load(path, weights_only=False)


@pytest.fixture
def run_fields(request, name) -> dict:
    """AdamW whose rate warms up and then falls, 8 iterations: two epochs of four, or none."""
    fields = request.getfixturevalue(f'{name}_fields')
    fields['optim_wrapper'] = dict(
        type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
        paramwise_cfg=dict(norm_decay_mult=0., custom_keys={'.positions.': FROZEN}))
    fields['param_scheduler'] = [
        dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=2),
        dict(type='CosineAnnealingLR', by_epoch=False, begin=2)]
    fields['custom_hooks'] = [dict(type='SameDraws')]
    if name == 'seg':
        fields['train_dataloader']['sampler'] = dict(type='InfiniteSampler')
        fields['train_cfg'] = dict(type='IterBasedTrainLoop', max_iters=8, val_interval=99)
        fields['default_hooks']['checkpoint'] = dict(type='CheckpointHook', by_epoch=False, interval=4)
    else:
        fields['train_cfg'] = dict(by_epoch=True, max_epochs=4, val_interval=99)
        fields['default_hooks']['checkpoint'] = dict(type='CheckpointHook', interval=2)
    return fields


FILES = dict(cls=('epoch_2.pth', 'epoch_4.pth'), det=('epoch_2.pth', 'epoch_4.pth'), seg=('iter_4.pth', 'iter_8.pth'))


@pytest.mark.parametrize('name', ['cls', 'det', 'seg'])
def test_goes_on_as_the_base_would(name, run_fields, write_config, tool, tmp_path):
    middle, end = FILES[name]
    tool('train.py', write_config(as_base(run_fields), 'base'), '--no-validate')
    base = saved(tmp_path / 'work_dirs/base' / end)['state_dict']
    grown_config = write_config(changed(run_fields, gate=0.), 'grown')
    grown = grow_checkpoint(tmp_path / 'work_dirs/base' / middle, Config.fromfile(grown_config))
    torch.save(grown, tmp_path / 'grown.pth')
    tool('train.py', grown_config, '--no-validate', '--resume', 'grown.pth')
    result = saved(tmp_path / 'work_dirs/grown' / end)['state_dict']
    assert all(value.equal(result[key]) for key, value in base.items())
