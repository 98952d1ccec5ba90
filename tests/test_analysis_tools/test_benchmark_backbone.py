"""tools/analysis_tools/benchmark_backbone.py on the smallest image."""
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from mmengine.utils import digit_version
from mmpretrain.models import VisionTransformer

from mmscalenet import ScaleNetDeiT

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / 'tools/analysis_tools'))
import benchmark_backbone  # noqa: E402
from opponents import OPPONENTS, build_pair  # noqa: E402


@pytest.mark.slow
def test_every_row_is_there(tmp_path):
    command = [sys.executable, 'tools/analysis_tools/benchmark_backbone.py', '--sizes', '224', '--rounds', '2',
               '--seconds', '0', '--threads', '1', '--device', 'cpu', '--scale', '2', '--out', tmp_path / 'table.md']
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / 'table.md').read_text()
    assert done.stdout.endswith(text), 'printed and written differ'
    times, costs = ([[cell.strip() for cell in line.split('|')[1:-1]] for line in part.splitlines()
                     if line.startswith('|')][2:] for part in text.rsplit('\n\n', 1))
    assert [row[:4] for row in times] == [[opponent, '224', mode + part, '2'] for opponent in OPPONENTS
                                          for mode in ('inference', 'training')
                                          for part in ('', ', matrix products alone')]
    for *_, theirs, ours, ratio in times:
        median, lowest, highest = (float(word.strip('()')) for word in ratio.replace('to', '').split())
        assert lowest <= median <= highest
        assert lowest * 0.9 < float(theirs.split()[0]) / float(ours.split()[0]) < highest * 1.1
    assert [row[0] for row in costs] == [opponent for opponent in OPPONENTS for _ in range(4)]
    for _, _, what, theirs, ours, part in costs:
        assert float(part) == pytest.approx(float(ours) / float(theirs), abs=1e-3)
        # what is kept for the backward pass is that of the depth, all else of the weights, half of which are shared
        assert 0.9 < float(part) < 1.1 if what.startswith('kept') else 0.4 < float(part) < 0.7, what


@pytest.mark.parametrize('opponent', OPPONENTS)
def test_opponents_do_the_same_work(opponent):
    """Of the same depth, and given the weights of ours with the same outputs."""
    parent, ours = build_pair(opponent, 'tiny', 2, adapter=False)
    ours.switch_to_deploy()
    parent.load_state_dict(ours.state_dict())
    parent.eval(), ours.eval()  # mmdet's train returns nothing
    image = torch.randn(1, 3, *((224, 224) if opponent == 'mmpretrain-vit' else (64, 96)))
    with torch.no_grad():
        for theirs, mine in zip(parent(image), ours(image), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('compiled, training', [(False, False), (False, True), pytest.param(True, False, marks=[
    pytest.mark.slow,
    pytest.mark.skipif(digit_version(torch.__version__) < digit_version('2.2'), reason='compiles no such model')])])
def test_time_rows(compiled, training, fresh_compiler):
    # more layers than a function may be compiled anew: the parent's graph breaks must not reach ours
    options = dict(arch=dict(embed_dims=32, num_layers=10, num_heads=2, feedforward_channels=64), img_size=32)
    models = VisionTransformer(**options), ScaleNetDeiT(**options, scale=1, adapter=None)
    args = Namespace(compile=compiled, rounds=3, seconds=0.)
    torch._dynamo.utils.counters.clear()
    whole, products = benchmark_backbone.time_rows(models, torch.randn(1, 3, 32, 32), training, args)
    graphs = torch._dynamo.utils.counters['stats']['unique_graphs']
    assert graphs >= 2 if compiled else graphs == 0  # the parent's falls into several
    mode = 'training' if training else 'inference'
    assert whole[:2] == [mode, '3'] and products[:2] == [f'{mode}, matrix products alone', '3']
    for cell in products[2:4]:
        assert 0 < int(cell.split('= ')[1].rstrip('%')) < 100


def test_nothing_left_to_run_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['benchmark_backbone.py', '--libraries', 'mmpretrain-vit', '--sizes', '512'])
    with pytest.raises(SystemExit):
        benchmark_backbone.main()
    assert capsys.readouterr().err.strip() == ('error: --libraries mmpretrain-vit does not run at --sizes 512; '
                                               'add 224.')
