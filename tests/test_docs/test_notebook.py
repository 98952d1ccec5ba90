"""The notebook of the documentation: run from top to bottom, and kept as it was then.

    python -m pytest -m slow tests/test_docs/test_notebook.py
"""
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).resolve().parents[2] / 'docs/grow_a_segmentor.ipynb'


def code(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == 'code']


def check(notebook: nbformat.NotebookNode) -> None:
    """That it ran from top to bottom, and shows what it is to show."""
    cells = code(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [output for cell in cells for output in cell.outputs if output.output_type == 'error']
    pictures = [output for cell in cells for output in cell.outputs if 'image/png' in output.get('data', {})]
    assert len(pictures) == 4
    text = ''.join(output.text for cell in cells for output in cell.outputs if output.output_type == 'stream')
    runs = re.split(r'^(?:base|grown)$', text, flags=re.MULTILINE)[1:]
    base, grown = (float(re.findall(r'^mIoU: ([\d.]+)', run, re.MULTILINE)[-1]) for run in runs)
    assert min(base, grown) > 5  # 17 classes: they have learnt
    depths = dict(re.findall(r'^(\d+) positions: ([\d.]+) mIoU', text, re.MULTILINE))
    assert len(depths) > 1 and float(depths[max(depths, key=int)]) == grown


def test_is_kept_as_it_ran():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    check(notebook)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_runs(tmp_path):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in code(notebook):
        cell.outputs, cell.execution_count = [], None
    NotebookClient(notebook, timeout=600, resources=dict(metadata=dict(path=tmp_path))).execute()
    check(notebook)
