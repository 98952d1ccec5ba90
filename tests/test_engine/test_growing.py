"""A run that is grown in its middle goes on as it would have: weights, moments, schedules, iteration."""
import copy
import json
from collections import Counter
from pathlib import Path

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
        fields['train_cfg'] = dict(type='IterBasedTrainLoop', max_iters=8, val_interval=99)
        fields['default_hooks']['checkpoint'] = dict(type='CheckpointHook', by_epoch=False, interval=4)
    else:
        fields['train_cfg'] = dict(by_epoch=True, max_epochs=4, val_interval=99)
        fields['default_hooks']['checkpoint'] = dict(type='CheckpointHook', interval=2)
    return fields


FILES = dict(cls=('epoch_2.pth', 'epoch_4.pth'), det=('epoch_2.pth', 'epoch_4.pth'), seg=('iter_4.pth', 'iter_8.pth'))


@pytest.fixture
def base_run(name, run_fields, write_config, tool, tmp_path) -> tuple[Path, dict]:
    """The checkpoint in the middle of a base's run, and the weights at its end."""
    middle, end = FILES[name]
    tool('train.py', write_config(as_base(run_fields), 'base'), '--no-validate')
    return tmp_path / 'work_dirs/base' / middle, saved(tmp_path / 'work_dirs/base' / end)['state_dict']


def distance(base: dict, result: dict) -> float:
    return max((value - result[key]).abs().max().item() for key, value in base.items() if value.is_floating_point())


@pytest.mark.parametrize('name', ['cls', 'det', 'seg'])
def test_goes_on_as_the_base_would(name, base_run, run_fields, write_config, tool, tmp_path):
    """Closed gates and adapters that do not move: the rest takes the base's steps, if moments, rates and iteration are
    those of its run; without the moments it does not."""
    middle, base = base_run
    config = write_config(changed(run_fields, gate=0.), 'grown')
    grown = grow_checkpoint(middle, Config.fromfile(config))
    torch.save(grown, tmp_path / 'grown.pth')
    tool('train.py', config, '--no-validate', '--resume', 'grown.pth')
    assert distance(base, saved(tmp_path / 'work_dirs/grown' / FILES[name][1])['state_dict']) < 1e-6
    grown['optimizer']['state'] = {}
    torch.save(grown, tmp_path / 'forgetful.pth')
    tool('train.py', config, '--no-validate', '--resume', 'forgetful.pth', '--work-dir', 'forgetful')
    assert distance(base, saved(tmp_path / 'forgetful' / FILES[name][1])['state_dict']) > 1e-5


@pytest.mark.parametrize('name', ['cls'])
def test_another_schedule_is_brought_to_the_iteration(name, base_run, run_fields, write_config, tool, tmp_path):
    """The grown run is longer, and falls later than the base's would."""
    run_fields['train_cfg']['max_epochs'] = 6
    run_fields['param_scheduler'] = [
        dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=2),
        dict(type='LinearLR', start_factor=1., end_factor=0.1, by_epoch=False, begin=8, end=12)]
    config = write_config(changed(run_fields, gate=0.), 'grown')
    torch.save(grow_checkpoint(base_run[0], Config.fromfile(config)), tmp_path / 'grown.pth')
    tool('train.py', config, '--no-validate', '--resume', 'grown.pth')
    lines = [json.loads(line) for line in next(Path('work_dirs/grown').glob('*/vis_data/scalars.json')).open()]
    assert [line['lr'] for line in lines] == pytest.approx([1e-3] * 5 + [7e-4, 4e-4, 1e-4])


def moment(state: dict) -> tuple:
    return tuple(state['exp_avg'].shape), tuple(state['exp_avg'].flatten().tolist())


@pytest.mark.parametrize('name', ['cls'])
@pytest.mark.parametrize('options', [dict(share=False, adapter=None), dict(unshare='norms')], ids=['copies', 'norms'])
def test_what_is_copied_has_the_moments_of_its_source(name, options, base_run, run_fields, write_config):
    cfg = Config.fromfile(write_config(changed(run_fields, **options), 'grown'))
    grown, run = grow_checkpoint(base_run[0], cfg), saved(base_run[0])
    counts = Counter(map(moment, grown['optimizer']['state'].values()))
    assert set(counts) == set(map(moment, run['optimizer']['state'].values())) and set(counts.values()) == {1, 2}
    assert sum(count == 2 for count in counts.values()) == (2 * 12 if 'share' in options else 2 * 4)
    moments = [state['exp_avg'].data_ptr() for state in grown['optimizer']['state'].values()]
    assert len(set(moments)) == len(moments)


@pytest.mark.parametrize('name', ['cls'])
def test_what_cannot_go_on_is_named(name, base_run, run_fields, write_config, tmp_path):
    run_fields['optim_wrapper']['optimizer'] = dict(type='SGD', lr=0.1)
    cfg = Config.fromfile(write_config(changed(run_fields, gate=0.), 'grown'))
    with pytest.raises(ValueError, match='was trained with AdamW, whose state is of no use to the SGD'):
        grow_checkpoint(base_run[0], cfg)
    torch.save(dict(state_dict=saved(base_run[0])['state_dict']), tmp_path / 'weights.pth')
    assert list(grow_checkpoint(tmp_path / 'weights.pth', cfg)) == ['state_dict']
    cfg.model.backbone.arch.num_layers = 3
    with pytest.raises(CheckpointError, match='the file has 2 blocks'):
        grow_checkpoint(tmp_path / 'weights.pth', cfg)
