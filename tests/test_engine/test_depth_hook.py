"""DepthHook in real runs: what trains when, after --resume, in two processes, and what a checkpoint is tested at."""
import json
import pickle
import re
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from torch.utils.flop_counter import FlopCounterMode

from mmscalenet.engine.depth import let_depth_change
from mmscalenet.engine.depth_schedule import DepthSchedule

TOOLS = Path(__file__).resolve().parents[2] / 'tools'
GROW = dict(type='mmscalenet.DepthHook', mode='grow', begin=2)
ADAMW = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-2, weight_decay=0.1))


def run_of(fields: dict, hook: dict, **changes) -> dict:
    """``cls_fields``: an epoch is 2 iterations; the base has 2 blocks, the full net 4 positions."""
    return deepcopy(fields) | dict(custom_hooks=[hook], optim_wrapper=ADAMW) | changes


def state(path: Path) -> dict:
    return torch.load(path, map_location='cpu', weights_only=False)


def depths_logged(work_dir: Path) -> list[int]:
    lines = [json.loads(line) for path in sorted(work_dir.glob('*/vis_data/scalars.json'))
             for line in path.read_text().splitlines()]
    return [line['depth'] for line in lines if 'depth' in line]


def test_schedules():
    grow = DepthSchedule('grow', 4, 8, 3)
    assert [grow.at(i) for i in range(5)] == [4, 4, 4, 8, 8] and grow.settled(2) == 4 and grow.settled(3) == 8
    ramp = DepthSchedule('ramp', 4, 8, 100, 1100)
    drawn = [ramp.at(i) for i in range(2000)]
    assert set(drawn[:100]) == {4} and set(drawn[1100:]) == {8} and set(drawn) == {4, 8}
    for start, expected in ((100, .125), (350, .375), (600, .625), (850, .875)):
        assert abs(sum(depth == 8 for depth in drawn[start:start + 250]) / 250 - expected) < 0.1
    elastic, other = (DepthSchedule('elastic', 4, 8, 0, depths=[4, 6, 8], seed=seed) for seed in (0, 1))
    assert all(900 < sum(elastic.at(i) == depth for i in range(3000)) < 1100 for depth in (4, 6, 8))
    assert [elastic.at(i) for i in range(50)] != [other.at(i) for i in range(50)]
    inner = DepthSchedule('elastic', 4, 8, 5, depths=[5, 6])
    assert {inner.at(i) for i in range(5)} == {4} and {inner.at(i) for i in range(5, 50)} == {5, 6}
    assert inner.settled(4) == 4 and inner.settled(5) == 6  # what lies beyond is never trained
    sandwich = DepthSchedule('elastic', 4, 8, 0, depths=[4, 6, 8], sandwich=3)
    assert [{sandwich.at(i) for i in range(first, 60, 3)} for first in range(3)] == [{4}, {8}, {4, 6, 8}]


def test_grows_with_the_moments_of_the_blocks(cls_fields, write_config, tool, tmp_path):
    tool('train.py', write_config(run_of(cls_fields, GROW)))
    work_dir = tmp_path / 'work_dirs/tiny'
    assert depths_logged(work_dir) == [2, 2, 2, 2, 4, 4]
    before, after = state(work_dir / 'epoch_2.pth'), state(work_dir / 'epoch_3.pth')
    assert before['meta']['depth'] == {'backbone': [2]} and after['meta']['depth'] == {'backbone': [4]}
    assert before['state_dict'].keys() == after['state_dict'].keys()
    steps = {name: _step(before, after, name) for name in after['state_dict'] if _step(before, after, name)}
    # 4 iterations before growth, 2 behind it: blocks and first positions have all 6, the added ones only 2
    added = {name for name in steps if re.search(r'positions\.[23]\.', name)}
    assert added and all(steps[name] == (None, 2) for name in added)
    assert all(count == (4, 6) for name, count in steps.items() if name not in added)
    start = {name: value for name, value in state(work_dir / 'epoch_1.pth')['state_dict'].items() if name in added}
    for name, value in start.items():
        assert torch.equal(before['state_dict'][name], value), f'{name} moved or decayed before it ran'
        assert not torch.equal(after['state_dict'][name], value) or 'down' in name or not value.any()


def _step(before: dict, after: dict, name: str):
    """Steps of the optimizer that a parameter has had in both checkpoints; parameters come in the model's order."""
    names = [key for key in after['state_dict'] if not key.endswith('layer_map') and 'data_preprocessor' not in key]
    if name not in names:
        return None
    index = names.index(name)
    return tuple(int(part['optimizer']['state'][index]['step']) if index in part['optimizer']['state'] else None
                 for part in (before, after))


@pytest.mark.parametrize('hook', [
    dict(mode='grow', begin=0.67),
    dict(mode='ramp', begin=1, end=0.9),
    dict(mode='elastic'),
    dict(mode='elastic', depths=[2, 4], begin=2, by_epoch=False, seed=3),
], ids=lambda hook: hook['mode'])
def test_resumed_it_goes_on_as_if_it_had_not_stopped(hook, cls_fields, write_config, tool, tmp_path):
    fields = run_of(cls_fields, dict(type='mmscalenet.DepthHook', **hook))
    fields['train_cfg']['max_epochs'] = 5
    fields['train_dataloader']['sampler']['shuffle'] = False
    tool('train.py', write_config(fields, 'whole'))
    tool('train.py', write_config(fields, 'cut'), '--work-dir', 'work_dirs/cut')
    for epoch in (4, 5):
        (tmp_path / f'work_dirs/cut/epoch_{epoch}.pth').unlink()
    tool('train.py', write_config(fields, 'cut'), '--work-dir', 'work_dirs/cut', '--resume')
    one, two = (state(tmp_path / f'work_dirs/{name}/epoch_5.pth') for name in ('whole', 'cut'))
    assert all(torch.equal(value, two['state_dict'][name]) for name, value in one['state_dict'].items())
    logged = depths_logged(tmp_path / 'work_dirs/whole')
    assert len(set(logged)) > 1 and depths_logged(tmp_path / 'work_dirs/cut') == logged + logged[6:]


def test_a_checkpoint_is_tested_at_its_depth(cls_fields, write_config, tool, tmp_path, capsys):
    fields = run_of(cls_fields, GROW)
    fields['test_evaluator'] = fields['val_evaluator'] = dict(type='Accuracy', topk=(1, ))
    config = write_config(fields)
    tool('train.py', config, '--no-validate')
    seen = {}
    for name, epoch, options in (('young', 2, []), ('base', 2, ['--depth', 2]), ('full', 2, ['--depth', 4]),
                                 ('old', 3, []), ('old full', 3, ['--depth', 4]), ('old 3', 3, ['--depth', 3])):
        tool('test.py', config, f'work_dirs/tiny/epoch_{epoch}.pth', '--out', 'out.pkl', *options)
        seen[name] = torch.stack([part['pred_score'] for part in pickle.loads(Path('out.pkl').read_bytes())])
    assert torch.equal(seen['young'], seen['base']) and not torch.equal(seen['young'], seen['full'])
    assert torch.equal(seen['old'], seen['old full']) and not torch.equal(seen['old'], seen['old 3'])


def test_evaluated_while_it_trains_at_the_depth_it_has(cls_fields, write_config, tool, tmp_path):
    """Whatever depth the last iteration drew."""
    tool('train.py', write_config(run_of(cls_fields, dict(type='mmscalenet.DepthHook', mode='elastic', begin=2))))
    assert [state(tmp_path / f'work_dirs/tiny/epoch_{epoch}.pth')['meta']['depth']['backbone'] for epoch in (1, 2, 3)] \
        == [[2], [2], [4]]


def test_depths_without_the_full_one(cls_fields, write_config, tool, tmp_path):
    elastic = dict(type='mmscalenet.DepthHook', mode='elastic', depths=[2, 3])
    tool('train.py', write_config(run_of(cls_fields, elastic)))
    last = state(tmp_path / 'work_dirs/tiny/epoch_3.pth')
    assert last['meta']['depth'] == {'backbone': [3]}
    up = [value for name, value in last['state_dict'].items() if 'positions.3.adapter.up.weight' in name]
    assert len(up) == 1 and not up[0].any()


def test_hooks_that_run_the_model_between_iterations_find_it_at_its_full_depth(cls_fields, tmp_path):
    """As mmpretrain's PreciseBNHook does."""
    seen = []

    class Watch(Hook):

        def after_train_iter(self, runner, *args, **kwargs) -> None:
            seen.append(runner.model.backbone.active_depth)

    elastic = dict(type='mmscalenet.DepthHook', mode='elastic')
    fields = run_of(cls_fields, elastic, work_dir=str(tmp_path), custom_hooks=[dict(type=Watch), elastic])
    Runner.from_cfg(Config(fields)).train()
    assert len(set(depths_logged(tmp_path))) > 1 and seen == [[4]] * 6


@pytest.mark.parametrize('with_cp', [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize('runner_type', ['Runner', 'FlexibleRunner'])
@pytest.mark.parametrize('hook', [
    pytest.param(dict(mode='grow', begin=1), id='grow', marks=pytest.mark.slow),
    pytest.param(dict(mode='elastic', sandwich=True), id='elastic')])
def test_two_processes_equal_the_joint_batch(hook, runner_type, with_cp, cls_fields, write_config, tool, shell,
                                             tmp_path):
    """With accumulation, so that a position may run in one part of a step alone. Momentum buffers hold gradients."""
    fields = cls_fields | dict(custom_hooks=[dict(type='mmscalenet.DepthHook', **hook)])
    fields['train_cfg'] = dict(by_epoch=True, max_epochs=2)
    fields['optim_wrapper'] = dict(type='OptimWrapper', accumulative_counts=2,
                                   optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=0.1))
    fields['model']['head']['init_cfg'] = dict(type='Normal', layer='Linear', std=0.5)
    fields['model']['backbone']['with_cp'] = with_cp
    fields['train_dataloader']['sampler']['shuffle'] = False
    for name in ('val_dataloader', 'val_cfg', 'val_evaluator'):
        del fields[name]
    tool('train.py', write_config(fields, 'joint'))
    halves = deepcopy(fields)
    halves['train_dataloader']['batch_size'] = 2
    halves['runner_type'] = runner_type
    result = shell('bash', TOOLS / 'dist_train.sh', write_config(halves, 'halves'), 2)
    assert result.returncode == 0, result.stderr[-3000:]
    one, two = (state(tmp_path / f'work_dirs/{name}/epoch_2.pth') for name in ('joint', 'halves'))
    moved, prefix = 0, 'module.' * (runner_type == 'FlexibleRunner')  # which mmengine's DDPStrategy leaves
    for name, value in one['state_dict'].items():
        torch.testing.assert_close(two['state_dict'][prefix + name], value, rtol=0, atol=2e-5)
        moved += 1
    assert moved > 30 and one['optimizer']['state'].keys() == two['optimizer']['state'].keys()


@pytest.mark.slow
@pytest.mark.parametrize('task', ['det', 'seg'])
def test_two_processes_of_the_other_tasks(task, request, write_config, shell, tmp_path):
    """Swin: nothing waits for a gradient that does not come."""
    fields = request.getfixturevalue(f'{task}_fields')
    fields['custom_hooks'] = [dict(type='mmscalenet.DepthHook', mode='elastic')]
    fields['train_cfg'].update(dict(max_epochs=4) if task == 'det' else dict(max_iters=4, val_interval=4))
    fields['visualizer']['vis_backends'] = [dict(type='LocalVisBackend')]
    result = shell('bash', TOOLS / 'dist_train.sh', write_config(fields), 2, '--no-validate')
    assert result.returncode == 0, result.stderr[-3000:]
    logged = depths_logged(tmp_path / 'work_dirs/tiny')
    assert len(logged) == 4 and len(set(logged)) > 1 and set(logged) <= {8, 10, 12, 14, 16}


@pytest.mark.parametrize('task', ['det', 'seg'])
def test_the_other_tasks(task, request, write_config, tool, tmp_path):
    """Swin, with EMA (and on a segmentor mixed precision): grown in the middle, then tested at every depth."""
    fields = request.getfixturevalue(f'{task}_fields')
    fields['custom_hooks'] = [dict(type='mmscalenet.DepthHook', mode='grow', begin=0.5), dict(type='EMAHook')]
    if task == 'seg':
        fields['train_cfg'].update(max_iters=4, val_interval=4)
        fields['default_hooks']['checkpoint']['interval'] = 1
        fields['visualizer']['vis_backends'] = [dict(type='LocalVisBackend')]
    config = write_config(fields)
    tool('train.py', config, *(['--amp'] if task == 'seg' else []))
    work_dir = tmp_path / 'work_dirs/tiny'
    logged = depths_logged(work_dir)
    assert logged == [8] * (len(logged) // 2) + [16] * (len(logged) // 2) and len(logged) > 1
    last = sorted(work_dir.glob('*.pth'))[-1]
    for depth in ('8', '12', '16'):
        tool('test.py', config, last, '--depth', depth)
    tool('test.py', config, last, '--depth', '2', '4', '2', '2')


@pytest.mark.parametrize('options', [dict(share=False, adapter=None), dict(unshare='norms')], ids=['copies', 'norms'])
def test_what_is_copied_is_copied_when_it_begins_to_run(options, cls_fields, write_config, tool, tmp_path):
    cls_fields['model']['backbone'].update(options)
    hooks = [GROW, dict(type='EMAHook', momentum=0.5)]
    fields = run_of(cls_fields, GROW, custom_hooks=hooks)
    # after growth nothing moves any more, so that the copies show what they started from
    fields['param_scheduler'] = [dict(type='MultiStepLR', by_epoch=True, milestones=[2], gamma=0.)]
    fields['optim_wrapper'] = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.5))
    tool('train.py', write_config(fields), '--no-validate')
    weights = state(tmp_path / 'work_dirs/tiny/epoch_3.pth')['state_dict']
    if 'unshare' in options:
        pairs = [(f'backbone.layers.positions.{p}.norm{n}.', f'backbone.layers.{p - 2}.ln{n}.') for p in (2, 3)
                 for n in (1, 2)]
    else:
        pairs = [(f'backbone.layers.{p}.', f'backbone.layers.{p - 2}.') for p in (2, 3)]
    compared = 0
    for own, source in pairs:
        for name in weights:
            if name.startswith(own):
                torch.testing.assert_close(weights[name], weights[source + name.removeprefix(own)])
                compared += 1
    assert compared >= 8


@pytest.mark.parametrize('options', [dict(share=False, adapter=None), dict(unshare='norms', adapter=None)], ids=str)
def test_what_is_copied_has_the_moments_of_its_block(options, cls_fields, write_config, tool, tmp_path):
    """As tools/grow.py gives them: where nothing moves after growth, they stay those of the block at that time."""
    cls_fields['model']['backbone'].update(options)
    fields = run_of(cls_fields, GROW | dict(begin=2))
    tool('train.py', write_config(fields), '--no-validate')
    last = state(tmp_path / 'work_dirs/tiny/epoch_3.pth')
    names = [name for name in last['state_dict'] if not name.endswith('layer_map') and 'preprocessor' not in name]
    steps = {name: last['optimizer']['state'][index]['step'].item() for index, name in enumerate(names)}
    own = [name for name in names if re.search(r'layers\.([23]|positions\.[23])\.', name)]
    assert len(own) >= 8 and all(steps[name] == 6 for name in own)  # 4 of them the block's alone


def test_less_is_run_before_growth(cls_fields, write_config):
    """Time would say the same on a quiet machine; what torch counts says it on any."""
    cfg = Config(cls_fields)
    cfg.model.backbone.arch.num_layers = 6
    cfg.model.backbone.adapter = None
    init_default_scope('mmpretrain')
    backbone = MODELS.build(cfg.model.backbone)
    counted = []
    for depth in (6, 9, 12):
        backbone.set_depth(depth)
        with FlopCounterMode(display=False) as counter:
            backbone(torch.randn(1, 3, 32, 32))[0].sum().backward()
        counted.append(counter.get_total_flops())
    assert counted[1] - counted[0] == counted[2] - counted[1] > 0.4 * counted[0]


@pytest.mark.parametrize('hook, message', [
    (dict(mode='shrink'), "mode='shrink' is not allowed; allowed are 'grow', 'ramp', 'elastic'"),
    (dict(begin=3), 'begin=3 is iteration 6, and the run ends after 6'),
    (dict(begin=7, by_epoch=False), 'begin=7 is iteration 7'),
    (dict(begin=0), 'begin=0 is the start of the run'),
    (dict(begin=1.5), 'begin=1.5 is not allowed; give a part of the run'),
    (dict(begin='late'), "begin='late' is not allowed"),
    (dict(mode='ramp', begin=2, end=1), 'end=1 is iteration 2; allowed is what lies after begin'),
    (dict(mode='ramp', begin=1, end=4), 'end=4 is iteration 8'),
    (dict(end=2), "end=2 goes with mode='ramp'"),
    (dict(depths=[2, 4]), "depths=.2, 4. goes with mode='elastic'"),
    (dict(mode='elastic', depths=[4]), '.4. is one depth'),
    (dict(mode='elastic', depths=4), 'depths=4 is one depth'),
    (dict(mode='elastic', depths=[2, 4.0]), '4.0 is not allowed'),
    (dict(mode='elastic', depths=['a', 4]), "'a' is not allowed"),
    (dict(mode='elastic', depths=[[2, 4]]), '.2, 4. is not allowed'),
    (dict(mode='elastic', sandwich='no'), "sandwich='no' is not allowed"),
    (dict(mode='elastic', depths=[2, 5]), '5 is not allowed; the net can run at 2, 3, 4'),
    (dict(mode='elastic', sandwich=True), 'accumulative_counts of 2 or more; it is 1'),
])
def test_bad_arguments(hook, message, cls_fields, write_config, tool, capsys):
    with pytest.raises(SystemExit):
        tool('train.py', write_config(run_of(cls_fields, dict(type='mmscalenet.DepthHook', **hook))))
    error = capsys.readouterr().err
    assert re.search(f'error: DepthHook: .*{message}', error), error
    assert not list(Path('work_dirs').rglob('*.pth'))


def test_epochs_of_a_run_that_counts_iterations(cls_fields, write_config, tool, capsys):
    hook = dict(type='mmscalenet.DepthHook', begin=1, by_epoch=True)
    iterations = dict(type='IterBasedTrainLoop', max_iters=6, val_interval=6)
    with pytest.raises(SystemExit):
        tool('train.py', write_config(run_of(cls_fields, hook, train_cfg=iterations)))
    assert 'error: DepthHook: by_epoch=True in a run that counts iterations' in capsys.readouterr().err


def test_among_the_default_hooks(cls_fields):
    cfg = Config(deepcopy(cls_fields))
    cfg.default_hooks.depth = dict(GROW)
    let_depth_change(cfg)
    assert cfg.find_unused_parameters


def test_two_hooks_are_one_too_many(cls_fields, write_config, tool, capsys):
    with pytest.raises(SystemExit):
        tool('train.py', write_config(run_of(cls_fields, GROW, custom_hooks=[GROW, GROW])))
    assert 'custom_hooks has more than one' in capsys.readouterr().err


def copies_and_sources(path: Path) -> list[tuple[torch.Tensor, torch.Tensor]]:
    weights = state(path)['state_dict']
    return [(value, weights[name.replace('layers.2.', 'layers.0.').replace('layers.3.', 'layers.1.')])
            for name, value in weights.items() if re.match(r'backbone\.layers\.[23]\.', name)]


def test_copies_of_a_fork_start_from_the_blocks_however_late(cls_fields, write_config, tool, tmp_path):
    """The base's run goes beyond the growth of the one that forks from it."""
    cls_fields['model']['backbone'].update(share=False, adapter=None)
    still = dict(param_scheduler=[dict(type='MultiStepLR', by_epoch=True, milestones=[2], gamma=0.)],
                 optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.5)))
    base = run_of(cls_fields, GROW, custom_hooks=[], **still)
    base['model']['backbone']['depth'] = 2
    tool('train.py', write_config(base, 'base'), '--no-validate')
    assert any(not torch.equal(*pair) for pair in copies_and_sources(tmp_path / 'work_dirs/base/epoch_2.pth'))
    fork = write_config(run_of(cls_fields, GROW | dict(begin=1), **still), 'fork')
    tool('train.py', fork, '--no-validate', '--resume', 'work_dirs/base/epoch_2.pth')
    pairs = copies_and_sources(tmp_path / 'work_dirs/fork/epoch_3.pth')
    assert len(pairs) > 20 and all(torch.equal(*pair) for pair in pairs)


def started_from(path: Path, way: str, fields: dict) -> dict:
    if way == 'init_cfg of the model':
        fields['model']['init_cfg'] = dict(type='Pretrained', checkpoint=str(path))
    elif way == 'init_cfg':
        fields['model']['backbone']['init_cfg'] = dict(type='Pretrained', checkpoint=str(path))
        fields['model']['head']['init_cfg'] = dict(type='mmscalenet.PretrainedHead', checkpoint=str(path))
    else:
        fields['load_from'] = str(path)
    return fields


def test_copies_that_ran_stay_where_others_did_not(cls_fields, write_config, tool, tmp_path, capfd):
    """Of a run of 3 of 4 positions the fourth starts from its block."""
    cls_fields['model']['backbone'].update(share=False, adapter=None, depth=3)
    tool('train.py', write_config(run_of(cls_fields, GROW, custom_hooks=[]), 'base'), '--no-validate')
    path = tmp_path / 'work_dirs/base/epoch_3.pth'
    del cls_fields['model']['backbone']['depth']
    still = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.))
    fields = run_of(cls_fields, GROW, custom_hooks=[], optim_wrapper=still, load_from=str(path))
    tool('train.py', write_config(fields, 'next'), '--no-validate')
    before, after = (state(one)['state_dict'] for one in (path, tmp_path / 'work_dirs/next/epoch_3.pth'))
    for name, value in before.items():
        source = name.replace('layers.3.', 'layers.1.')
        assert after[name].equal(before[source]) and (source == name or not value.equal(before[source]) or 'ln' in name
                                                      or 'bias' in name), name


@pytest.mark.parametrize('run, change, message', [
    (dict(custom_hooks=[GROW]), {}, 'grows later, by a DepthHook, and the config has none'),
    (dict(custom_hooks=[]), dict(depth=2), r'ran at depth \[2\], and the config runs \[4\], with copies or norms')])
def test_resumed_without_what_starts_the_copies(run, change, message, cls_fields, write_config, tool, capsys):
    cls_fields['model']['backbone'].update(share=False, adapter=None)
    base = run_of(cls_fields, GROW, **run)
    base['model']['backbone'].update(change)
    tool('train.py', write_config(base, 'base'), '--no-validate')
    with pytest.raises(SystemExit):
        tool('train.py', write_config(run_of(cls_fields, GROW, custom_hooks=[]), 'next'), '--no-validate', '--resume',
             'work_dirs/base/epoch_1.pth')
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize('own', [dict(share=False), dict(share=False, gate=0.5), dict(unshare='norms')], ids=str)
@pytest.mark.parametrize('way', ['load_from', 'init_cfg', 'init_cfg of the model', 'load_from without our tools'])
def test_what_was_trained_and_loaded_stays(way, own, cls_fields, write_config, tool, tmp_path):
    cls_fields['model']['backbone'].update(adapter=None, **own)
    tool('train.py', write_config(run_of(cls_fields, GROW, custom_hooks=[]), 'grown'), '--no-validate')
    trained = tmp_path / 'work_dirs/grown/epoch_3.pth'
    fields = started_from(trained, way, run_of(cls_fields, GROW))
    fields['optim_wrapper'] = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.))
    if way == 'load_from without our tools':
        Runner.from_cfg(Config(fields | dict(work_dir=str(tmp_path / 'work_dirs/again')))).train()
    else:
        tool('train.py', write_config(fields, 'again'), '--no-validate')
    before, after = (state(path)['state_dict'] for path in (trained, tmp_path / 'work_dirs/again/epoch_3.pth'))
    assert all(torch.equal(value, after[name]) for name, value in before.items())


@pytest.mark.parametrize('hooks', [[GROW | dict(begin=1)], []], ids=['grows again', 'grown from the start'])
@pytest.mark.parametrize('way', ['load_from', 'init_cfg'])
@pytest.mark.parametrize('depth', [None, 2], ids=['by a hook', 'by the config'])
def test_copies_from_before_growth_start_from_the_blocks(depth, way, hooks, cls_fields, write_config, tool, tmp_path,
                                                         capfd):
    """They are in the file and were never trained."""
    cls_fields['model']['backbone'].update(share=False, adapter=None)
    base = run_of(cls_fields, GROW, custom_hooks=[] if depth else [GROW])
    base['model']['backbone']['depth'] = depth
    tool('train.py', write_config(base, 'base'), '--no-validate')
    path = tmp_path / 'work_dirs/base/epoch_2.pth'
    assert any(not torch.equal(*pair) for pair in copies_and_sources(path))
    still = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.))
    fields = started_from(path, way, run_of(cls_fields, GROW, custom_hooks=hooks, optim_wrapper=still))
    tool('train.py', write_config(fields, 'next'), '--no-validate')
    assert 'epoch_2.pth was written before its net grew' in capfd.readouterr().out
    pairs = copies_and_sources(tmp_path / 'work_dirs/next/epoch_3.pth')
    sources = state(path)['state_dict'].values()
    assert len(pairs) > 20 and all(torch.equal(*pair) for pair in pairs)
    assert all(any(source.equal(value) for value in sources) for _, source in pairs)


def test_a_depth_of_the_config_is_noted(cls_fields, write_config, tool, tmp_path):
    cls_fields['model']['backbone']['depth'] = 3
    tool('train.py', write_config(cls_fields), '--no-validate')
    assert state(tmp_path / 'work_dirs/tiny/epoch_3.pth')['meta']['depth'] == {'backbone': [3]}


@pytest.mark.parametrize('backbone, message', [
    (dict(scale=1), '.2. is one depth, .*scale above 1'),
    (dict(depth=3), 'the backbone has depth=3, and the hook sets the depth too'),
    (dict(type='VisionTransformer', scale=None), 'ImageClassifier has no expanded backbone'),
])
def test_bad_models(backbone, message, cls_fields, write_config, tool, capsys):
    cls_fields['model']['backbone'].update(backbone)
    if backbone.get('scale', 0) is None:
        del cls_fields['model']['backbone']['scale']
    with pytest.raises(SystemExit):
        tool('train.py', write_config(run_of(cls_fields, GROW)))
    assert re.search(f'error: DepthHook: .*{message}', capsys.readouterr().err)


def test_depth_on_the_command_line_needs_a_grown_backbone(cls_fields, write_config, tool, capsys):
    tool('train.py', write_config(cls_fields), '--no-validate')
    with pytest.raises(SystemExit):
        tool('test.py', write_config(cls_fields), 'work_dirs/tiny/epoch_3.pth', '--depth', 5)
    assert 'depth=5 is not allowed; allowed are 2 to 4' in capsys.readouterr().err
    cls_fields['model']['backbone']['type'] = 'VisionTransformer'
    with pytest.raises(SystemExit):
        tool('test.py', write_config(cls_fields), 'work_dirs/tiny/epoch_3.pth', '--depth', 5)
    assert '--depth needs a config with a ScaleNet backbone' in capsys.readouterr().err


def test_our_own_runner_says_what_is_missing(cls_fields, monkeypatch, tmp_path):
    """A runner that is not built by tools/train.py, under DistributedDataParallel without what the hook needs."""
    monkeypatch.chdir(tmp_path)
    fields = run_of(cls_fields, GROW, work_dir='work_dirs/own')
    runner = Runner.from_cfg(Config(fields))
    assert [type(hook).__name__ for hook in runner.hooks].count('DepthHook') == 1
    runner.train()
    assert state(tmp_path / 'work_dirs/own/epoch_3.pth')['meta']['depth'] == {'backbone': [4]}


@pytest.mark.parametrize('mode', ['grow', 'ramp'])
def test_a_run_that_is_prolonged_does_not_shrink(mode, cls_fields, write_config, tool, tmp_path):
    """A part of the run lies elsewhere in the longer one, and the net has grown."""
    hook = dict(type='mmscalenet.DepthHook', mode=mode, begin=0.5)  # of 6 iterations
    config = write_config(run_of(cls_fields, hook))
    tool('train.py', config)
    tool('train.py', config, '--resume', '--cfg-options', 'train_cfg.max_epochs=8')
    depths = depths_logged(tmp_path / 'work_dirs/tiny')
    assert depths[:3] == [2] * 3 and depths[6:] == [4] * 10
    assert state(tmp_path / 'work_dirs/tiny/epoch_4.pth')['meta']['depth'] == {'backbone': [4]}


def test_before_it_has_grown_a_longer_run_grows_later(cls_fields, write_config, tool, tmp_path):
    config = write_config(run_of(cls_fields, dict(type='mmscalenet.DepthHook', begin=0.7)))
    tool('train.py', config)
    for name in ('epoch_3.pth', 'last_checkpoint'):
        (tmp_path / f'work_dirs/tiny/{name}').unlink()
    # from iteration 4, the first that is grown; at that place nothing has
    tool('train.py', config, '--resume', tmp_path / 'work_dirs/tiny/epoch_2.pth', '--work-dir', 'longer',
         '--cfg-options', 'train_cfg.max_epochs=5')
    assert depths_logged(Path('longer')) == [2, 2, 2, 4, 4, 4]


@pytest.mark.parametrize('mode', ['grow', 'elastic'])
def test_a_run_that_is_shortened_goes_on(mode, cls_fields, write_config, tool, tmp_path):
    config = write_config(run_of(cls_fields, dict(type='mmscalenet.DepthHook', mode=mode, begin=1)))
    tool('train.py', config, '--cfg-options', 'train_cfg.max_epochs=5')
    folder = tmp_path / 'work_dirs/tiny'
    tool('train.py', config, '--resume', folder / 'epoch_2.pth', '--work-dir', 'shorter')  # of 3 epochs
    assert depths_logged(Path('shorter')) == depths_logged(folder)[4:6]
