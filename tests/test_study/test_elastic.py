"""Grids with elastic nets: trained for real on 600 squares and tested at every depth."""
import sys
from pathlib import Path
from statistics import mean

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / 'tools/study'), str(Path(__file__).parent)]

import elastic_figures  # noqa: E402
import lines  # noqa: E402
import report  # noqa: E402
from compare import Arms  # noqa: E402
from grids import GRIDS  # noqa: E402
from run import Study  # noqa: E402
from runs import Run  # noqa: E402
from test_study import write_inputs  # noqa: E402

from mmscalenet.engine.depth_schedule import DepthSchedule  # noqa: E402


def elastic_grid(config: str) -> list[Run]:
    """The arms of t2_deit_elastic of a base of three blocks."""
    common = dict(grid='tiny_elastic', seed=0, config=config)
    base = Run(arm='base', **common)
    runs = [base]
    for run in GRIDS['t2_deit_elastic']()[:3]:
        options = run.options | {'model.backbone.scale': 2 if run.tested_at else 5 / 3}
        if 'custom_hooks' in options:
            options['custom_hooks'] = [dict(options['custom_hooks'][0], depths=(3, 4, 6)), options['custom_hooks'][1]]
        runs.append(Run(arm=run.arm, options=options, parent=base, at=0.7,
                        tested_at=(3, 4, 6) if run.tested_at else (), **common))
    return runs


def test_a_step_costs_what_it_costs_on_average(tmp_path):
    *_, plain, elastic = elastic_grid(str(write_inputs(tmp_path)))
    costs = [plain.costs_at(depth)[0] for depth in (3, 4, 6)]
    block = 16 * (17 * (4 * 16 * 16 + 2 * 16 * 32) + 2 * 17 * 17 * 16)
    assert [costs[1] - costs[0], costs[2] - costs[1]] == [block, 2 * block] and costs[2] == plain.multiply_adds
    assert elastic.multiply_adds == round(mean(costs)) and elastic.parameters == plain.parameters


def test_what_is_drawn_costs_what_is_charged():
    """To 1.5 % of the part of the run in which depths are drawn."""
    for run in GRIDS['t2_deit_elastic']():
        if 'elastic' in run.arm:
            hook = run.declared.custom_hooks[0]
            schedule = DepthSchedule('elastic', 1, 4, 0, depths=hook.depths, seed=hook.seed)
            costs = {depth: run.costs_at(depth)[0] for depth in hook.depths}
            spent = mean(costs[schedule.at(step)] for step in range(run.first, run.end))
            assert spent == pytest.approx(run.multiply_adds, rel=0.015) and len(set(costs.values())) == 4


def record(study: str, arm: str, seed: int, loss: float, tests: tuple[float, ...] = ()) -> dict:
    return dict(study=study, arm=arm, seed=seed, opponent_study='trunk', batch=1, curve=[dict(test_loss=loss)], depths=[
        dict(depth=depth, multiply_adds=depth * 10**6, test_loss=value) for depth, value in enumerate(tests, 1)])


def test_the_table_of_depths(tmp_path):
    """By the elastic net's seeds, differences paired; what has not been run yet is left out."""
    arms = Arms([
        record('trunk', 'base', 0, 5.), record('trunk', 'base', 1, 7.), record('trunk', 'base', 2, 100.),
        record('trunk', 'shared, 32k steps', 1, 4.), record('grid', 'shared, 3', 0, 3.),
        record('grid', 'shared, elastic', 0, 2., (5.5, 4., 3.2, 2.)),
        record('grid', 'shared, elastic', 1, 2., (7.1, 4., 3., 2.)),
        record('grid', 'stacked, 3', 0, 3.)])
    rows = {row[0]: row[1:] for row in elastic_figures.depth_table(arms, 'grid')}
    assert rows == {
        'net': ['depth 1', 'depth 2', 'depth 3', 'depth 4'],
        'test loss: shared, a net for each depth': ['6.0000 (2)', '4.0000 (1)', '3.0000 (1)', ''],
        'test loss: shared, one elastic net': ['6.3000 (2)', '4.0000 (2)', '3.1000 (2)', '2.0000 (2)'],
        # 0.5 and 0.1: t = 12.706 at 1 degree of freedom, times 0.2
        'test loss: shared, elastic against a net for each depth': ['+0.3000 ± 2.5412', '+0.0000', '+0.2000', '']}
    elastic_figures.elastic(arms, 'grid', tmp_path / 'elastic.png')
    assert arms.of('grid') == ['shared, 3', 'shared, elastic', 'stacked, 3']  # looking makes no arm
    assert elastic_figures.depth_table(Arms([record('grid', 'shared, 3', 0, 3.)]), 'grid') == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_tested_at_every_depth(tmp_path, monkeypatch):
    runs = elastic_grid(str(write_inputs(tmp_path)))
    study = Study(runs, tmp_path / 'work', tmp_path / 'data', tmp_path / 'lines')
    study.work(1)
    assert not study.failed
    records = {record['arm']: record for record in lines.read(tmp_path / 'lines/tiny_elastic.jsonl')}
    for arm in ('shared, 4', 'shared, elastic'):
        tests, last = records[arm]['depths'], records[arm]['curve'][-1]
        assert [test['depth'] for test in tests] == [3, 4, 6]
        for key in ('top1', 'test_loss'):  # the net of the last evaluation, at its full depth
            assert tests[-1][key] == last[key] != tests[0][key]
    assert 'depths' not in records['base']
    monkeypatch.setattr(sys, 'argv', ['report.py', '--lines', str(tmp_path / 'lines')])
    report.main()
    text = (tmp_path / 'tables.md').read_text()
    loss = f'{records["shared, elastic"]["depths"][0]["test_loss"]:.4f}'
    assert '| net | depth 1 | depth 3 | depth 4 | depth 6 |' in text
    assert f'test loss: shared, one elastic net |  | {loss} (1) |' in text
    assert (tmp_path / 'elastic_tiny_elastic.png').stat().st_size > 5000
