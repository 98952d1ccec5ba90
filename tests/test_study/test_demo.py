"""make demo from end to end, with real trainings of some steps on a data set of 600 + 400 bright squares."""
import hashlib
import importlib
import json
import sys
from pathlib import Path

import pytest
from PIL import Image
from squares import small_data

ROOT = Path(__file__).resolve().parents[2]
CONFIG = f"""
_base_ = {str(ROOT / 'configs/study/deit-single_8k_fashion-crops.py')!r}
train_dataloader = dict(batch_size=16)
train_cfg = dict(max_iters=60, val_interval=20)
default_hooks = dict(checkpoint=dict(interval=6))
"""


@pytest.fixture
def demo(monkeypatch, tmp_path, capsys):
    """Runs the demo on the files of ``small_data``, or on given ones, and returns what it printed."""
    monkeypatch.syspath_prepend(str(ROOT / 'tools/study'))
    monkeypatch.chdir(tmp_path)  # where the images are kept
    module, arms, prepare = map(importlib.import_module, ('demo', 'arms', 'prepare_fashion_mnist'))
    config = tmp_path / 'deit-tiny.py'
    config.write_text(CONFIG)
    monkeypatch.setitem(arms.CONFIGS, 'demo_deit', str(config))
    monkeypatch.setattr(sys, 'argv', ['demo.py', '--data', str(tmp_path / 'data')])

    def run(**files: bytes) -> str:
        contents = small_data() | {name.replace('_', '-'): content for name, content in files.items()}
        (tmp_path / 'data').mkdir(exist_ok=True)
        for name, content in contents.items():
            (tmp_path / 'data' / name).write_bytes(content)
        monkeypatch.setattr(prepare, 'FILES', {name: (len(content), hashlib.md5(content).hexdigest())
                                               for name, content in contents.items()})
        module.main()
        return capsys.readouterr().out

    return run


@pytest.mark.slow
def test_demo(demo, tmp_path):
    printed, folder = demo(), tmp_path / 'work_dirs/demo'
    records = [json.loads(line) for line in (folder / 'demo.jsonl').read_text().splitlines()]
    assert {record['arm'] for record in records} == {'base', 'shared', 'ScaleNet', 'stacked'}
    budget = next(record['train_flops'] for record in records if record['arm'] == 'base')
    for record in records:  # to half a step
        assert abs(record['train_flops'] - budget) <= 3 * record['multiply_adds']
        assert record['phases'][0]['steps'] == (60 if record['arm'] == 'base' else 42)

    table = [line.strip('| ').split(' | ') for line in (folder / 'table.md').read_text().splitlines()]
    rows = {row[0].split(',')[0]: row for row in table[2:]}
    for record in records:
        assert rows[record['arm']][-1] == f'{record["curve"][-1]["top1"]:.2f}'
    parameters = {name: int(row[1].replace(',', '')) for name, row in rows.items()}
    assert parameters['base'] == parameters['shared'] < parameters['ScaleNet'] < parameters['stacked']
    assert Image.open(folder / 'curves.png').size > (800, 300)
    for arm in ('shared', 'ScaleNet', 'stacked'):
        gain = float(rows[arm][-1]) - float(rows['base'][-1])
        assert f'{arm} {gain:+.2f}' in printed
    assert demo().split('|')[0] == '\n'  # nothing is trained again


@pytest.mark.slow
def test_failed_training(demo, capsys):
    """The end of its log is shown."""
    with pytest.raises(SystemExit):
        demo(train_labels_idx1_ubyte=b'not the labels of anything')
    said = capsys.readouterr()
    assert 'FAILED base_s0; the end of ' in said.out and 'Error' in said.out
    assert 'trainings failed: base_s0' in said.err


def test_no_data(demo, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys, 'argv', ['demo.py', '--data', str(tmp_path / 'deit-tiny.py/data')])
    with pytest.raises(SystemExit):
        demo()
    assert capsys.readouterr().err.startswith('error: ')
