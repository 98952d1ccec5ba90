"""The figure of all bases, from lines whose gains are known."""
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / 'tools/study'))

import regime_figure  # noqa: E402
from compare import Arms  # noqa: E402


def record(study: str, arm: str, seed: int, loss: float, opponent: str = 'base', flops: float = 6e9) -> dict:
    return dict(study=study, arm=arm, seed=seed, opponent_study=study, opponent=opponent, parameters=1000,
                train_flops=flops, batch=1, curve=[dict(test_loss=9.), dict(test_loss=loss)])


def test_gains_are_of_the_bases_loss_and_stand_at_its_tokens(tmp_path):
    crops, deeper = 't2_deit_crops', 't2_deit_deeper'
    arms = Arms([
        record(crops, 'base', 0, 2.), record(crops, 'base', 1, 2.), record(crops, 'base, 8k steps', 0, 4., flops=3e9),
        record(crops, 'shared, 32k steps', 0, 1.5), record(crops, 'shared, 32k steps', 1, 1.7),
        record(crops, 'shared, 8k steps', 0, 4.2, 'base, 8k steps', flops=3e9),
        record(crops, 'ScaleNet, 32k steps', 0, 1.), record(crops, 'shared, inject', 0, 1.),
        record(deeper, 'base, 2 blocks', 0, 2., 'base, 2 blocks'),
        record(deeper, 'stacked, 2 blocks', 0, 1., 'base, 2 blocks'),
        record('t1_deit_few', 'base', 0, 2.), record('t1_deit_few', 'shared', 0, 1.)])
    assert ['1 block, photographs', 'shared', '1,000', '2', '+20.0 ± 63.5'] in regime_figure.regime_table(arms)
    found = regime_figure.points(arms)
    shared = found['shared'].pop('1 block, photographs')
    assert sorted(shared) == [500, 1000]  # 3e9 and 6e9 over 6 * 1000 ** 2
    assert (shared[500].mean, shared[500].half) == (pytest.approx(-5), None)
    assert shared[1000].mean == pytest.approx(20) and shared[1000].half == pytest.approx(12.706 * 5, rel=1e-3)
    assert found['stacked'].pop('2 blocks, photographs')[1000].mean == pytest.approx(50)
    assert not any(found.values())
    assert regime_figure.regime_table(Arms([record(crops, 'base', 0, 2.)])) == []
    regime_figure.regime(arms, tmp_path / 'regime.png')
    assert (tmp_path / 'regime.png').stat().st_size > 10_000
