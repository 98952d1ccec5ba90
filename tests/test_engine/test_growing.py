"""A run that is grown in its middle goes on as it would have: weights, moments, schedules, iteration."""
import copy
import os
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from mmscalenet.checkpoints import CheckpointError
from mmscalenet.engine import ResumeError, grow_checkpoint

STILL = {'.positions.': dict(lr_mult=0., decay_mult=0.)}
LAYER_DECAY = dict(constructor='mmscalenet.LayerDecayOptimWrapperConstructor')
#: The checkpoint after 4 of 8 iterations, and the last one.
FILES = dict(cls=('epoch_2.pth', 'epoch_4.pth'), det=('epoch_2.pth', 'epoch_4.pth'), seg=('iter_4.pth', 'iter_8.pth'))


@HOOKS.register_module(force=True)
class SameDraws(Hook):
    """A detector samples regions: the same ones in every run."""

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        torch.manual_seed(runner.iter)


def with_backbone(fields: dict, **options) -> dict:
    fields = copy.deepcopy(fields)
    fields['model']['backbone'].update(options)
    return fields


def as_base(fields: dict) -> dict:
    return with_backbone(fields, scale=1, adapter=None)


def with_optimizer(fields: dict, **options) -> dict:
    return {**fields, 'optim_wrapper': {**fields['optim_wrapper'], **options}}


def saved(path: Path) -> dict:
    return torch.load(path, weights_only=False)


@pytest.fixture
def name() -> str:
    return 'cls'


@pytest.fixture
def run_fields(request, name) -> dict:
    """8 iterations of AdamW at a rate that rises and then falls."""
    fields = request.getfixturevalue(f'{name}_fields')
    fields['optim_wrapper'] = dict(
        type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
        paramwise_cfg=dict(norm_decay_mult=0., custom_keys=STILL))
    fields['param_scheduler'] = [
        dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=2),
        dict(type='CosineAnnealingLR', by_epoch=False, begin=2)]
    fields['custom_hooks'] = [dict(type='SameDraws')]
    hook = dict(type='CheckpointHook', interval=2)
    fields['train_cfg'] = dict(by_epoch=True, max_epochs=4, val_interval=99)
    if name == 'seg':
        fields['train_cfg'] = dict(type='IterBasedTrainLoop', max_iters=8, val_interval=99)
        fields['train_dataloader']['sampler'] = dict(type='InfiniteSampler')
        hook = dict(type='CheckpointHook', by_epoch=False, interval=4)
    fields['default_hooks'] = dict(fields['default_hooks'], checkpoint=hook)
    return fields


@pytest.fixture
def run(tool, write_config, tmp_path):
    """Train a config without validation; returns its work directory."""

    def train(fields: dict, name: str, *arguments: object) -> Path:
        tool('train.py', write_config(fields, name), '--no-validate', *arguments)
        return tmp_path / 'work_dirs' / name

    return train


@pytest.fixture
def grow(write_config, tmp_path):
    """Grow a checkpoint to the model of ``fields``; returns what it holds and its file."""

    def grow(checkpoint: Path, fields: dict, **options) -> tuple[dict, Path]:
        grown = grow_checkpoint(checkpoint, Config.fromfile(write_config(fields, 'grown')), **options)
        torch.save(grown, tmp_path / 'grown.pth')
        return grown, tmp_path / 'grown.pth'

    return grow


def named_state(checkpoint: dict, names: list[str]) -> dict[str, dict]:
    """State of the optimizer by name, where it holds the parameters one by one in the order of the model."""
    indices = [index for group in checkpoint['optimizer']['param_groups'] for index in group['params']]
    assert len(indices) == len(names)
    return {name: checkpoint['optimizer']['state'].get(index) for name, index in zip(names, indices, strict=True)}


def parameters(checkpoint: dict) -> list[str]:
    return [key for key in checkpoint['state_dict']
            if not key.endswith(('layer_map', 'relative_position_index', 'running_mean', 'running_var', 'tracked'))]


@pytest.mark.parametrize('name', ['cls', 'det', 'seg'])
def test_goes_on_as_the_base_would(name, run_fields, run, grow):
    """With closed gates and positions that stand still the blocks train on bit for bit as in the base's own run."""
    middle, end = FILES[name]
    base = run(as_base(run_fields), 'base')
    grown_fields = with_backbone(run_fields, gate=0.)
    _, file = grow(base / middle, grown_fields)
    result = saved(run(grown_fields, 'grown', '--resume', file) / end)['state_dict']
    expected = saved(base / end)['state_dict']
    assert set(result) > set(expected)
    assert all(value.equal(result[key]) for key, value in expected.items())


@pytest.mark.parametrize('options', [
    # count their steps in a group
    dict(optimizer=dict(type='Lamb', lr=1e-2, weight_decay=0.02)),
    dict(optimizer=dict(type='Adan', lr=1e-2, weight_decay=0.02)),
    # by the name that the configs of mmpretrain give
    dict(constructor='LearningRateDecayOptimWrapperConstructor', paramwise_cfg=dict(layer_decay_rate=.5)),
], ids=['Lamb', 'Adan', 'layer decay'])
def test_other_optimizers_go_on(options, run_fields, run, grow):
    """Grown by nothing: Lamb clips by the norm over all parameters, and mmpretrain's layer decay stills none."""
    fields = as_base(with_optimizer(run_fields, **options))
    base = run(fields, 'base')
    _, file = grow(base / 'epoch_2.pth', fields)
    result = saved(run(fields, 'grown', '--resume', file) / 'epoch_4.pth')['state_dict']
    expected = saved(base / 'epoch_4.pth')['state_dict']
    assert set(result) == set(expected) and all(value.equal(result[key]) for key, value in expected.items())


def test_groups_that_hold_what_is_not_known(run_fields, run, grow):
    path = run(as_base(run_fields), 'base') / 'epoch_2.pth'
    checkpoint = saved(path)
    for number, group in enumerate(checkpoint['optimizer']['param_groups']):
        group['turn'] = number
    torch.save(checkpoint, path)
    with pytest.raises(ResumeError, match="differ in 'turn'"):
        grow(path, run_fields)


@pytest.mark.parametrize('every, lost', [(2, False), (3, True)])
def test_a_step_that_is_not_complete(every, lost, run_fields, run, grow, capfd):
    path = run(as_base(with_optimizer(run_fields, accumulative_counts=every)), 'base') / 'epoch_2.pth'
    grow(path, with_optimizer(run_fields, accumulative_counts=every))
    assert ('1 of 3 batches into a step' in ''.join(capfd.readouterr())) is lost


@pytest.mark.parametrize('part', ['optimizer', 'param_schedulers'])
def test_what_would_be_missed(part, run_fields, run, grow):
    """The test above sees it when the moments, or the place in the schedule, do not survive."""
    base = run(as_base(run_fields), 'base')
    grown_fields = with_backbone(run_fields, gate=0.)
    grown, file = grow(base / 'epoch_2.pth', grown_fields)
    if part == 'optimizer':
        grown['optimizer']['state'] = {}
    else:
        del grown['param_schedulers']
    torch.save(grown, file)
    result = saved(run(grown_fields, 'grown', '--resume', file) / 'epoch_4.pth')['state_dict']
    weight = 'backbone.layers.0.attn.qkv.weight'
    assert (result[weight] - saved(base / 'epoch_4.pth')['state_dict'][weight]).abs().max() > 1e-5


@pytest.mark.parametrize('before, after', [
    (dict(paramwise_cfg=None), dict(paramwise_cfg=dict(custom_keys=STILL))),
    (dict(LAYER_DECAY, paramwise_cfg=dict(layer_decay_rate=.5)),
     dict(LAYER_DECAY, paramwise_cfg=dict(layer_decay_rate=.5, custom_keys=STILL))),
])
def test_other_parameter_groups(before, after, run_fields, run, grow):
    """One group in the run and one for each parameter after it; groups that each depth orders anew."""
    base = run(as_base(with_optimizer(run_fields, **before)), 'base')
    grown_fields = with_backbone(with_optimizer(run_fields, **after), gate=0.)
    _, file = grow(base / 'epoch_2.pth', grown_fields)
    result = saved(run(grown_fields, 'grown', '--resume', file) / 'epoch_4.pth')['state_dict']
    assert all(value.equal(result[key]) for key, value in saved(base / 'epoch_4.pth')['state_dict'].items())


@pytest.mark.parametrize('options, sources', [
    (dict(share=False, layer_map='interleaved'),
     {f'layers.{p}.': f'layers.{block}.' for p, block in enumerate([0, 0, 1, 1])}),
    (dict(unshare='norms'),
     {f'layers.positions.{p}.norm{i}.': f'layers.{p - 2}.ln{i}.' for p in (2, 3) for i in (1, 2)}),
])
def test_copies_begin_with_the_moments_of_their_source(options, sources, run_fields, run, grow):
    base = saved(run(as_base(run_fields), 'base') / 'epoch_2.pth')
    grown, _ = grow(Path('work_dirs/base/epoch_2.pth'), with_backbone(run_fields, **options))
    before, after = (named_state(checkpoint, parameters(checkpoint)) for checkpoint in (base, grown))
    copied = 0
    for name, state in after.items():
        start = next((start for start in sources if f'backbone.{start}' in name), '')
        expected = before.get(name.replace(f'backbone.{start}', f'backbone.{sources.get(start, start)}', 1))
        assert (state is None) == (expected is None), name
        if expected is not None:
            copied += bool(start)
            assert all(value.equal(state[key]) for key, value in expected.items()), name
    assert copied == (4 * 12 if 'share' in options else 2 * 2 * 2)
    moments = [state['exp_avg'].data_ptr() for state in after.values() if state]
    assert len(set(moments)) == len(moments)  # a moment that two parameters share would be updated twice


SCHEDULES = {
    'iterations': [dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=3),
                   dict(type='PolyLR', by_epoch=False, begin=1, eta_min=1e-5, power=.9)],
    'epochs': [dict(type='ConstantLR', factor=.5, end=1), dict(type='MultiStepLR', milestones=[1, 3], gamma=.3),
               dict(type='LinearLR', start_factor=.1, by_epoch=False, end=3)],
    'converted': [dict(type='CosineAnnealingLR', T_max=4, end=4, convert_to_iter_based=True)],
}


@pytest.mark.parametrize('name, kind', [('cls', kind) for kind in SCHEDULES] + [('seg', 'iterations')])
def test_schedule_is_that_of_the_new_config(name, kind, run_fields, run, grow):
    """As a run of the grown config has it that was there all the time: state, and rates and decays of all groups."""
    base = run(as_base(run_fields), 'base')
    fields = with_optimizer(run_fields, optimizer=dict(type='AdamW', lr=3e-3, weight_decay=.1))
    fields['param_scheduler'] = SCHEDULES[kind]
    grown, _ = grow(base / FILES[name][0], fields)
    expected = saved(run(fields, 'grown') / FILES[name][0])
    assert grown['param_schedulers'] == expected['param_schedulers']
    for ours, theirs in zip(grown['optimizer']['param_groups'], expected['optimizer']['param_groups'], strict=True):
        assert ours == theirs
    assert grown['optimizer']['base_param_settings']['lr'] == expected['optimizer']['base_param_settings']['lr']
    assert (grown['meta']['epoch'], grown['meta']['iter']) == (expected['meta']['epoch'], expected['meta']['iter'])


def test_scaled_learning_rates_stay_scaled(run_fields, run, grow):
    base = run(as_base(run_fields), 'base', '--auto-scale-lr')  # batch 4 of 16
    grown, _ = grow(base / 'epoch_2.pth', with_backbone(run_fields, gate=0.))
    moving = [group for group in grown['optimizer']['param_groups'] if group['lr']]
    assert moving and {group['initial_lr'] for group in moving} == {2.5e-4}
    assert {group['lr'] for group in moving} == {saved(base / 'epoch_2.pth')['optimizer']['param_groups'][0]['lr']}


def test_average_and_weights_grow_alike(run_fields, run, grow):
    """EMA keeps two sets of weights, and goes on from both."""
    run_fields['custom_hooks'].append(dict(type='EMAHook', momentum=.3))
    base = run(as_base(run_fields), 'base')
    grown_fields = with_backbone(run_fields, gate=0.)
    grown, file = grow(base / 'epoch_2.pth', grown_fields)
    adapter = 'backbone.layers.positions.3.adapter.down.weight'
    assert grown['state_dict'][adapter].equal(grown['ema_state_dict'][f'module.{adapter}'])
    result, expected = saved(run(grown_fields, 'grown', '--resume', file) / 'epoch_4.pth'), saved(base / 'epoch_4.pth')
    for part in ('state_dict', 'ema_state_dict'):
        assert all(value.equal(result[part][key]) for key, value in expected[part].items())


def test_files_of_the_run_are_left_alone(run_fields, tool, write_config, grow, tmp_path):
    """mmengine deletes an outdated best checkpoint and surplus ones, which it knows from the file it resumes."""
    run_fields['default_hooks']['checkpoint'].update(interval=1, save_best='auto', max_keep_ckpts=2)
    run_fields['train_cfg']['val_interval'] = 1
    tool('train.py', write_config(as_base(run_fields), 'base'), '--cfg-options', 'train_cfg.max_epochs=3')
    base = tmp_path / 'work_dirs/base'
    assert {'best_score', 'keep_ckpt_ids'} <= set(saved(base / 'epoch_3.pth')['message_hub']['runtime_info'])
    grown, _ = grow(base / 'epoch_3.pth', with_backbone(run_fields, gate=0.))
    assert not [key for part in grown['message_hub'].values() for key in part if key.startswith(('best_', 'keep_'))]
    assert 'loss' in ' '.join(grown['message_hub']['log_scalars'])


def test_same_seed_same_growth(run_fields, run, grow):
    base = run(as_base(run_fields), 'base')
    states = []
    for seed in (0, 0, 1):
        torch.rand(1)
        states.append(grow(base / 'epoch_2.pth', {**run_fields, 'randomness': dict(seed=seed)})[0]['state_dict'])
    assert all(value.equal(states[1][key]) for key, value in states[0].items())
    assert not all(value.equal(states[2][key]) for key, value in states[0].items())


def test_loss_scale_goes_on_with_mixed_precision_alone(run_fields, run, grow):
    path = run(as_base(run_fields), 'base') / 'epoch_2.pth'
    checkpoint = saved(path)
    checkpoint['optimizer']['loss_scaler'] = dict(scale=512.)  # a CPU has none
    torch.save(checkpoint, path)
    assert 'loss_scaler' not in grow(path, run_fields)[0]['optimizer']
    amp = with_optimizer(run_fields, type='AmpOptimWrapper', loss_scale='dynamic', dtype='float16')
    assert grow(path, amp)[0]['optimizer']['loss_scaler'] == dict(scale=512.)


def test_weights_without_a_run(run_fields, run, grow):
    path = run(as_base(run_fields), 'base') / 'epoch_2.pth'
    checkpoint = saved(path)
    del checkpoint['optimizer']
    torch.save(checkpoint, path)
    assert set(grow(path, run_fields)[0]) == {'state_dict'}


@pytest.mark.parametrize('change, said', [
    (dict(optimizer=dict(type='SGD', lr=.1)), 'trained with AdamW, whose state is of no use to the SGD'),
    (dict(type='Other'), "optim_wrapper.type='Other' cannot be grown"),
])
def test_optimizers_that_cannot_go_on(change, said, run_fields, run, grow):
    path = run(as_base(run_fields), 'base') / 'epoch_2.pth'
    fields = with_optimizer(run_fields, **change)
    with pytest.raises(ResumeError, match=said):
        grow(path, fields)
    assert set(grow(path, fields, weights_only=True)[0]) == {'state_dict'}


def test_schedule_that_follows_a_metric(run_fields, run, grow):
    path = run(as_base(run_fields), 'base') / 'epoch_2.pth'
    run_fields['param_scheduler'] = dict(type='ReduceOnPlateauLR', monitor='loss')
    with pytest.raises(ResumeError, match='ReduceOnPlateauLR follows a metric'):
        grow(path, run_fields)


def test_moments_of_another_model(run_fields, run, grow):
    """The run trained all; here a part is frozen, and what is left is not what the optimizer holds."""
    path = run(as_base(run_fields), 'base') / 'epoch_2.pth'
    with pytest.raises(ResumeError, match='the base of the grown config has .* to train. Give the config of the run'):
        grow(path, with_backbone(run_fields, frozen_stages=1))


def test_checkpoints_that_do_not_fit(run_fields, run, grow, tmp_path):
    path = run(as_base(run_fields), 'base') / 'epoch_2.pth'
    heads = copy.deepcopy(run_fields)
    heads['model']['head']['num_classes'] = 5
    with pytest.raises(CheckpointError, match='size mismatch for head'):
        grow(path, heads)
    checkpoint = saved(path)
    checkpoint['state_dict']['neck.weight'] = torch.zeros(1)
    torch.save(checkpoint, tmp_path / 'more.pth')
    with pytest.raises(CheckpointError, match='has no place for neck.weight'):
        grow(tmp_path / 'more.pth', run_fields)
    _, file = grow(path, run_fields)
    with pytest.raises(CheckpointError, match='is of a grown model'):
        grow(file, run_fields)


@pytest.mark.parametrize('attack, said', [
    ("optim_wrapper = __import__('os').mkdir('made')", 'cannot be read'),
    ("optim_wrapper = dict(constructor='os.mkdir', optimizer=dict(type='AdamW'))", "'os.mkdir', is not known"),
    ("import os\nos.mkdir('made')\n", ''),
])
def test_config_in_a_checkpoint_is_not_run(attack, said, run_fields, run, grow):
    path = run(as_base(run_fields), 'base') / 'epoch_2.pth'
    checkpoint = saved(path)
    checkpoint['meta']['cfg'] = attack
    torch.save(checkpoint, path)
    if said:
        with pytest.raises(ResumeError, match=said):
            grow(path, run_fields)
    else:
        grow(path, run_fields)
    assert not os.path.exists('made')


def test_the_parts_of_several_processes(run_fields, write_config, shell, grow, tmp_path):
    """ZeRO's optimizer, of which each of two processes holds a part: grown in one, gone on with in two."""
    del run_fields['custom_hooks']
    run_fields['optim_wrapper']['optimizer'].update(type='ZeroRedundancyOptimizer', optimizer_type='AdamW')
    grown_fields = with_backbone(run_fields, gate=0.)
    configs = write_config(as_base(run_fields), 'base'), write_config(grown_fields, 'grown')
    launcher = Path(__file__).resolve().parents[2] / 'tools/dist_train.sh'
    result = shell('bash', launcher, configs[0], 2, '--no-validate')
    assert result.returncode == 0, result.stderr[-3000:]
    work_dir = tmp_path / 'work_dirs'
    grown, file = grow(work_dir / 'base/epoch_2.pth', grown_fields)
    assert len(grown['optimizer']['state']) == len(saved(work_dir / 'base/epoch_2.pth')['optimizer']['state']) > 20
    result = shell('bash', launcher, configs[1], 2, '--no-validate', '--resume', file)
    assert result.returncode == 0, result.stderr[-3000:]
    one, two = (saved(work_dir / name / 'epoch_4.pth')['state_dict'] for name in ('base', 'grown'))
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=1e-6, atol=1e-6)
