"""The table of what can leave is whole, and rows of it are as they are made now."""
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / 'tools/deployment'))
import check_deployment  # noqa: E402

pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')
TABLE = (ROOT / 'docs/results/deployment.md').read_text()


def rows(text: str) -> dict[tuple[str, str], list[str]]:
    """Name and options -> the cells, 'yes' for a difference."""
    cells = [[cell.strip() for cell in line.strip('|').split('|')] for line in re.findall(r'^\| .*\|$', text, re.M)]
    return {(name, options): [_verdict(cell, text) for cell in rest] for name, options, *rest in cells[2:]}


def _verdict(cell: str, text: str) -> str:
    number = re.fullmatch(r'no \((\d+)\)', cell)
    if number:
        return re.search(rf'^{number[1]}\. (.*)$', text, re.M)[1]
    assert float(cell) < 1e-5
    return 'yes'


def test_the_table_is_whole():
    assert list(rows(TABLE)) == [case[:2] for case in check_deployment.cases()]


@pytest.mark.parametrize('only', ['mmseg.VisionTransformer inject', 'mmdet.SwinTransformer an adapter with ReLU'])
def test_rows_are_true(only, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, 'argv', ['check_deployment.py', '--only', only, '--out', str(tmp_path / 'table.md')])
    check_deployment.main()
    made = rows((tmp_path / 'table.md').read_text())
    assert len(made) == 1
    for key, cells in made.items():
        assert cells == rows(TABLE)[key]
