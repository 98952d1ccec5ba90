"""A run that is resumed with another schedule, as one that is prolonged, follows that."""
import json
from copy import deepcopy

import pytest

COSINE = dict(type='CosineAnnealingLR', by_epoch=False)
WARMUP = dict(type='LinearLR', start_factor=0.5, by_epoch=False, end=2)
DROP = dict(type='MultiStepLR', milestones=[1], gamma=0.1)


def rates(work_dir) -> dict[int, float]:
    """By iteration, of the last of its runs."""
    lines = [json.loads(line) for line in max(work_dir.glob('*/vis_data/scalars.json')).read_text().splitlines()]
    return {line['step']: line['lr'] for line in lines if 'lr' in line}


def changed(fields: dict, schedule: list[dict], epochs: int) -> dict:
    return deepcopy(fields) | dict(
        param_scheduler=deepcopy(schedule), train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=0.01)),
        default_hooks=fields['default_hooks'] | dict(logger=dict(type='LoggerHook', interval=1)))


@pytest.mark.parametrize('runner_type', ['Runner', pytest.param('FlexibleRunner', marks=pytest.mark.slow)])
@pytest.mark.parametrize('old, new', [
    ([dict(COSINE, T_max=4)], [dict(COSINE, T_max=12)]),
    ([WARMUP], [WARMUP, dict(type='LinearLR', end_factor=0.1, start_factor=1., by_epoch=False, begin=8)]),
    ([dict(type='PolyLR', eta_min=1e-4, by_epoch=False)], [dict(type='PolyLR', eta_min=1e-4, by_epoch=False)]),
    ([DROP], [dict(DROP, milestones=[4])]),
    ([dict(COSINE, T_max=4), dict(type='CosineAnnealingMomentum', eta_min=0.5, T_max=4, by_epoch=False)],
     [dict(COSINE, T_max=12), dict(type='CosineAnnealingMomentum', eta_min=0.5, T_max=12, by_epoch=False)]),
], ids=['longer', 'one more', 'to the end of the run', 'milestones in epochs', 'momentum'])
def test_a_prolonged_run_follows_its_new_schedule(old, new, runner_type, cls_fields, write_config, tool, tmp_path,
                                                  capfd):
    """Its rates are those of a run that had it from the start."""
    cls_fields['runner_type'] = runner_type
    tool('train.py', write_config(changed(cls_fields, old, 2), 'short'), '--no-validate')
    longer = write_config(changed(cls_fields, new, 6), 'longer')
    capfd.readouterr()
    tool('train.py', longer, '--no-validate', '--resume', 'work_dirs/short/epoch_2.pth')
    assert 'resume: the param_scheduler of the config is another than that of the run' in capfd.readouterr().out
    tool('train.py', longer, '--no-validate', '--work-dir', 'work_dirs/whole')
    resumed, whole = rates(tmp_path / 'work_dirs/longer'), rates(tmp_path / 'work_dirs/whole')
    assert list(resumed) == list(range(5, 13)) and len(set(whole.values())) > 1
    assert resumed == pytest.approx({step: whole[step] for step in resumed}, rel=1e-9)


def test_of_a_run_that_keeps_no_optimizer(cls_fields, write_config, tool, tmp_path):
    cls_fields['default_hooks']['checkpoint'] = dict(type='CheckpointHook', interval=1, save_optimizer=False)
    tool('train.py', write_config(changed(cls_fields, [dict(COSINE, T_max=4)], 2), 'short'), '--no-validate')
    longer = write_config(changed(cls_fields, [dict(COSINE, T_max=12)], 6), 'longer')
    tool('train.py', longer, '--no-validate', '--resume', 'work_dirs/short/epoch_2.pth')
    tool('train.py', longer, '--no-validate', '--work-dir', 'work_dirs/whole')
    resumed, whole = rates(tmp_path / 'work_dirs/longer'), rates(tmp_path / 'work_dirs/whole')
    assert resumed == pytest.approx({step: whole[step] for step in range(5, 13)}, rel=1e-9)


def test_the_same_schedule_goes_on_as_it_was(cls_fields, write_config, tool, tmp_path, capfd):
    config = write_config(changed(cls_fields, [dict(COSINE, T_max=6)], 3), 'run')
    tool('train.py', config, '--no-validate')
    tool('train.py', config, '--no-validate', '--resume', 'work_dirs/run/epoch_1.pth', '--work-dir', 'work_dirs/again')
    assert 'is another than that of the run' not in capfd.readouterr().out
    one, two = rates(tmp_path / 'work_dirs/run'), rates(tmp_path / 'work_dirs/again')
    assert two == {step: one[step] for step in range(3, 7)}


def test_what_follows_a_metric_is_said_to_be_lost(cls_fields, write_config, tool, capfd):
    plateau = dict(type='ReduceOnPlateauLR', monitor='loss', rule='less', by_epoch=True)
    tool('train.py', write_config(changed(cls_fields, [dict(plateau, patience=1)], 1), 'short'))
    tool('train.py', write_config(changed(cls_fields, [dict(plateau, patience=2)], 2), 'longer'), '--resume',
         'work_dirs/short/epoch_1.pth')
    assert 'Not restored: the new param_scheduler, of which one follows a metric' in ''.join(capfd.readouterr())
