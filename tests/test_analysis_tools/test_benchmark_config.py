"""tools/analysis_tools/benchmark_config.py on a small config."""
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONFIG = 'configs/fashion_scenes/mask-rcnn_scalenet-deit-nano-x2_1e_fashion-scenes.py'


def run(*variants: str, out: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, 'tools/analysis_tools/benchmark_config.py', CONFIG, '--shape', '448', '448',
               '--rounds', '1', '--threads', '1', '--device', 'cpu', '--out', out, '--variants', *variants]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.slow
def test_every_variant_has_a_row_against_the_first(tmp_path):
    done = run('', 'window_size=0', 'scale=4 window_size=0', out=tmp_path / 'table.md')
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.split('|')[1:-1]]
            for line in (tmp_path / 'table.md').read_text().splitlines() if line.startswith('|')][2:]
    assert [row[0] for row in rows] == ['as in the config', '`window_size=0`', '`scale=4 window_size=0`']
    assert ['x' in cell for row in rows for cell in row[4:]] == [False] * 2 + [True] * 4
    activations, peaks = ([float(row[column]) for row in rows] for column in (2, 3))
    assert all(peak > kept for peak, kept in zip(peaks, activations, strict=True)) and peaks[2] > 1.2 * peaks[1]
    multiply_adds = [float(row[1]) for row in rows]
    assert multiply_adds[2] > 1.8 * multiply_adds[1]


@pytest.mark.slow
def test_mixed_precision_keeps_less(tmp_path):
    kept = []
    for amp in ([], ['--amp']):
        done = run('with_cp=False', 'with_cp=light', *amp, out=tmp_path / 'table.md')
        assert done.returncode == 0, done.stderr
        rows = [line.split('|') for line in (tmp_path / 'table.md').read_text().splitlines() if line.startswith('| `')]
        kept.append([float(row[3]) for row in rows])
    full, half = kept
    assert all(0.4 < b / a < 0.8 for a, b in zip(full, half, strict=True))
    assert all(0.5 < light / plain < 0.8 for plain, light in kept)


def test_a_setting_without_a_value_is_refused(tmp_path):
    done = run('window_size', out=tmp_path / 'table.md')
    assert done.returncode and 'give key=value' in done.stderr and 'Traceback' not in done.stderr
    assert not (tmp_path / 'table.md').exists()
