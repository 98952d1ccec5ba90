"""tools/demo.py from end to end, with real trainings on a data set of 600 + 400 bright squares."""
import hashlib
import importlib
import json
import re
import sys
from pathlib import Path

import pytest
from PIL import Image
from squares import small_data

TOOLS = Path(__file__).resolve().parents[2] / 'tools'


@pytest.fixture
def demo(monkeypatch, tmp_path, capsys):
    """Runs the demo on the files of ``small_data``, or on given ones, and returns what it printed."""
    monkeypatch.syspath_prepend(str(TOOLS))
    module = importlib.import_module('demo')
    prepare = importlib.import_module('prepare_fashion_mnist')
    data = tmp_path / 'data'

    def run(*arguments: object, **files: bytes) -> str:
        contents = small_data() | {name.replace('_', '-'): content for name, content in files.items()}
        data.mkdir(exist_ok=True)
        for name, content in contents.items():
            (data / name).write_bytes(content)
        monkeypatch.setattr(prepare, 'FILES', {name: (len(content), hashlib.md5(content).hexdigest())
                                               for name, content in contents.items()})
        monkeypatch.setattr(sys, 'argv', ['demo.py', '--data', str(data), '--work-dir', str(tmp_path / 'demo'),
                                          *map(str, arguments)])
        module.main()
        return capsys.readouterr().out

    return run


@pytest.mark.slow
def test_demo(demo, tmp_path):
    printed = demo('--images', 512)
    folder = tmp_path / 'demo'
    results = json.loads((folder / 'results.json').read_text())
    assert {name: result['epochs'][-1] for name, result in results.items()} == {
        'base': 9, 'ScaleNet x2': 3, 'base, trained on': 3, 'from scratch': 9}
    for name, result in results.items():
        assert len(result['top1']) == len(result['seconds']) == len(result['epochs'])
        assert result['seconds'] == sorted(result['seconds']) and result['seconds'][0] > 0
        assert len(re.findall(rf'^{name} +epoch ', printed, re.MULTILINE)) == len(result['epochs'])

    table = [line.strip('| ').split(' | ') for line in (folder / 'table.md').read_text().splitlines()]
    rows = {row[0]: row for row in table[2:]}
    assert [float(rows[name][-1]) for name in results] == [round(r['top1'][-1], 2) for r in results.values()]
    assert rows['base'][1] == rows['base, trained on'][1] and rows['ScaleNet x2'][3] == '9 + 3'
    parameters = {name: int(row[1].replace(',', '')) for name, row in rows.items()}
    assert parameters['base'] < parameters['ScaleNet x2'] < parameters['from scratch']
    assert Image.open(folder / 'curves.png').size > (800, 300)
    # the grown model starts from what the base has learnt
    assert results['ScaleNet x2']['top1'][0] > results['base']['top1'][0]

    # all is used again, except where a checkpoint is not what was recorded
    again = demo('--images', 512)
    assert again.count('finished earlier') == 4 and 'epoch ' not in again.split('|')[0]
    Path(results['from scratch']['checkpoint']).write_bytes(b'damaged')
    third = demo('--images', 512)
    assert third.count('finished earlier') == 3
    assert len(re.findall('^from scratch +epoch ', third, re.MULTILINE)) == 9


def test_failed_training(demo):
    """The end of its log is shown."""
    with pytest.raises(SystemExit, match='(?s)training of "base" failed.*train.log:\n.*Error'):
        demo('--images', 512, train_labels_idx1_ubyte=b'not the labels of anything')


def test_refused(demo, tmp_path):
    for images in (0, -1, 'many'):
        with pytest.raises(SystemExit):
            demo('--images', images)
    assert not (tmp_path / 'demo').exists()
