"""tools/analysis_tools/benchmark_backbone.py on the smallest image."""
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / 'tools/analysis_tools'))
    import benchmark_backbone
    return benchmark_backbone


@pytest.mark.slow
def test_every_row_is_there(tmp_path):
    command = [sys.executable, 'tools/analysis_tools/benchmark_backbone.py', '--sizes', '224', '--rounds', '2',
               '--seconds', '0', '--threads', '1', '--device', 'cpu', '--out', tmp_path / 'table.md']
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    table = (tmp_path / 'table.md').read_text()
    assert done.stdout.endswith(table), 'printed and written differ'
    rows = [[cell.strip() for cell in line.split('|')[1:-1]] for line in table.splitlines() if line.startswith('|')][2:]
    assert [row[:4] for row in rows] == [[library, '224', mode, '2'] for library in ('mmpretrain', 'mmdet')
                                         for mode in ('inference', 'training')]
    for *_, theirs, ours, ratio in rows:
        median, lowest, highest = (float(word.strip('()')) for word in ratio.replace('to', '').split())
        assert lowest <= median <= highest
        assert lowest * 0.9 < float(theirs) / float(ours) < highest * 1.1


@pytest.mark.parametrize('library', ['mmpretrain', 'mmdet'])
def test_opponents_do_the_same_work(library, benchmark):
    """Of the same depth, and given the weights of ours with the same outputs."""
    opponent, ours = benchmark.build_pair(library, 'tiny', 2, adapter=False)
    ours.switch_to_deploy()
    opponent.load_state_dict(ours.state_dict())
    opponent.eval(), ours.eval()  # mmdet's train returns nothing
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        for theirs, mine in zip(opponent(image), ours(image), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)
