"""Grids with elastic nets: trained for real on 600 squares and tested at every depth."""
import sys
from pathlib import Path
from statistics import mean

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / 'tools/study'), str(Path(__file__).parent)]

import lines  # noqa: E402
import report  # noqa: E402
from grids import GRIDS  # noqa: E402
from run import Study  # noqa: E402
from runs import Run  # noqa: E402
from test_study import write_inputs  # noqa: E402


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


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_tested_at_every_depth(tmp_path, monkeypatch):
    runs = elastic_grid(str(write_inputs(tmp_path)))
    study = Study(runs, tmp_path / 'work', tmp_path / 'data', tmp_path / 'lines')
    study.work(1)
    assert not study.failed
    records = {record['arm']: record for record in lines.read(tmp_path / 'lines/tiny_elastic.jsonl')}
    for arm in ('shared, 4', 'shared, elastic'):
        record = records[arm]
        assert [test['depth'] for test in record['depths']] == [3, 4, 6]
        for key in ('top1', 'test_loss'):  # the net of the last evaluation, at its full depth
            assert record['depths'][-1][key] == record['curve'][-1][key] != record['depths'][0][key]
    assert 'depths' not in records['base']
    monkeypatch.setattr(sys, 'argv', ['report.py', '--lines', str(tmp_path / 'lines')])
    report.main()
    text = (tmp_path / 'tables.md').read_text()
    loss = f'{records["shared, elastic"]["depths"][0]["test_loss"]:.4f}'
    assert '| net | depth 1 | depth 3 | depth 4 | depth 6 |' in text
    assert f'test loss: shared, elastic |  | {loss} |' in text
    assert (tmp_path / 'elastic_tiny_elastic.png').stat().st_size > 5000
