"""What training costs besides time, against sums done by hand: costs.py and reduced_bytes.py."""
import sys
from functools import partial
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / 'tools/analysis_tools'))
from costs import costs, optimizer_bytes, parameters  # noqa: E402
from opponents import build_opponent, build_ours, build_pair  # noqa: E402
from reduced_bytes import reduced_bytes  # noqa: E402

SHAPE = (3, 224, 224)


def deit_by_hand(blocks: int, positions: int = 0, d: int = 192, adapter: int = 80) -> int:
    """Patches, class token, position embeddings and last norm; each block; two maps without biases at each position."""
    block = 2 * 2 * d + (d + 1) * 3 * d + (d + 1) * d + (d + 1) * 4 * d + (4 * d + 1) * d
    return (16 * 16 * 3 + 1) * d + d + 197 * d + 2 * d + blocks * block + positions * 2 * d * adapter


@pytest.mark.parametrize('scale', [1, 2])
def test_parameters(scale):
    """Those of the twin grow with its depth, ours by adapters alone."""
    assert parameters(build_opponent('mmpretrain-vit', 'tiny', scale)) == deit_by_hand(12 * scale)
    assert parameters(build_ours('mmpretrain-vit', 'tiny', scale)) == deit_by_hand(12, 12 * scale)
    assert parameters(build_ours('mmpretrain-vit', 'tiny', scale, adapter=None)) == deit_by_hand(12)


def test_frozen_parameters_cost_nothing():
    net = build_ours('mmpretrain-vit', 'tiny', 2, freeze='base')
    adapters = deit_by_hand(12, 24) - deit_by_hand(12)
    assert parameters(net) == adapters
    assert optimizer_bytes(net, SHAPE) == 4 * (2 * adapters + 24 * 2)


@pytest.mark.parametrize('scale', [1, 2])
def test_adamw_holds_two_numbers_a_parameter(scale):
    """And a count of steps for each tensor. The weights stay."""
    for model in build_pair('mmpretrain-vit', 'tiny', scale, adapter=True):
        before = [p.detach().clone() for p in model.parameters()]
        tensors, numbers = len(before), sum(p.numel() for p in before)
        assert optimizer_bytes(model, SHAPE) == 4 * (2 * numbers + tensors)
        assert all(p.grad is None and (p == old).all() for p, old in zip(model.parameters(), before, strict=True))


def test_units():
    net = build_opponent('mmpretrain-vit', 'tiny', 1)
    found = costs(net, SHAPE)
    assert found['parameters (M)'] == deit_by_hand(12) / 1e6
    assert found["AdamW's state (MiB)"] == pytest.approx(2 * 4 * deit_by_hand(12) / 2**20, rel=1e-3)
    # about 30 MiB in docs/results/cost.md, of which the adapters keep some
    assert 20 < found['kept for the backward pass (MiB an image)'] < 30


@pytest.mark.slow
def test_two_processes_reduce_each_gradient_once():
    """However often a block has run; of the adapted net fewer than of its twin."""
    twin, ours = reduced_bytes(partial(build_pair, 'mmpretrain-vit', 'tiny', 2, True), SHAPE)
    assert twin == 4 * deit_by_hand(24)
    assert ours == 4 * deit_by_hand(12, 24) < twin
