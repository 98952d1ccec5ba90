"""The way of a user with another backbone: train it, grow it by load_from or by grow.py, and train on."""
import copy
import pickle
from pathlib import Path

import pytest
import torch
from families import FAMILIES

#: Task -> family, channels of its outputs.
#: An XCiT has an argument ``depth`` of its own.
TASKS = dict(cls=('mmpretrain-xcit', [16]), seg=('mmseg-mscan', [8, 16, 16, 24]), det=('mmdet-pvt-v2', [8, 16, 16, 32]))


@pytest.fixture(params=['cls', 'seg', pytest.param('det', marks=pytest.mark.slow)])
def fields(request) -> dict:
    """Of a task, with the plain backbone of a family."""
    task = request.param
    name, channels = TASKS[task]
    parent, arguments = FAMILIES[name]
    result = request.getfixturevalue(f'{task}_fields')
    backbone = dict(copy.deepcopy(arguments), type=parent.__name__)
    if task == 'det':
        backbone['_delete_'] = True
        result['model']['neck']['in_channels'] = channels
    elif task == 'cls':
        backbone |= dict(out_type='avg_featmap', out_indices=-1)
        result['model'] |= dict(neck=None, head=dict(type='LinearClsHead', num_classes=2, in_channels=channels[-1]))
    else:
        result['model']['decode_head']['in_channels'] = channels[-1]
    result['model']['backbone'] = backbone
    return result


def test_grown_by_load_from_and_by_the_tool(fields, write_config, tool, tmp_path, capfd):
    tool('train.py', write_config(fields, 'base'), '--no-validate')
    checkpoint = sorted((tmp_path / 'work_dirs/base').glob('*.pth'))[-1]
    base = torch.load(checkpoint, weights_only=False)['state_dict']
    ours = copy.deepcopy(fields)
    library = fields['default_scope']
    backbone = ours['model']['backbone']
    backbone.update(type='mmscalenet.ScaleNet', base=f'{library}.{backbone["type"]}', scale=2, gate=0.)
    capfd.readouterr()
    tool('train.py', write_config(ours, 'grown'), '--no-validate', '--cfg-options', f'load_from={checkpoint}',
         'optim_wrapper.optimizer.lr=0.')
    log = ''.join(capfd.readouterr())
    assert 'tensors loaded' in log and 'do not match exactly' not in log
    grown = torch.load(sorted((tmp_path / 'work_dirs/grown').glob('*.pth'))[-1], weights_only=False)['state_dict']
    assert set(base) < set(grown) and all('.positions.' in key for key in set(grown) - set(base))
    for key, value in base.items():
        if 'num_batches' not in key and 'running' not in key:
            assert value.equal(grown[key]), key

    def predictions(config: Path, weights: Path) -> list:
        tool('test.py', config, weights, '--out', 'predictions.pkl')
        return pickle.loads(Path('predictions.pkl').read_bytes())

    before = predictions(tmp_path / 'base.py', checkpoint)
    tool('grow.py', tmp_path / 'base.py', checkpoint, '--scale', 2, '--options', 'gate=0.', '--out', 'new')
    after = predictions(Path('new/base_grown.py'), Path('new/base_grown.pth'))
    assert len(str(_plain(before))) > 500 and _plain(before) == _plain(after)
    tool('train.py', 'new/base_grown.py', '--no-validate', '--cfg-options', 'load_from=new/base_grown.pth')


def _plain(results: list) -> list:
    """The numbers of the predictions."""
    def numbers(part: object) -> object:
        if isinstance(part, torch.Tensor):
            return part.tolist()
        if isinstance(part, dict):
            return {key: numbers(value) for key, value in sorted(part.items()) if 'pred' in key or key in (
                'bboxes', 'scores', 'labels', 'data')}
        return None
    return [numbers(result) for result in results]
