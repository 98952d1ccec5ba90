"""Files of earlier versions load bit by bit, and compute what they did; tests/old_files/make.py adds those of a new."""
import inspect
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from mmscalenet import ScaleNetDeiT, ScaleNetSwin, expand
from mmscalenet.engine import read_config

OLD = Path(__file__).resolve().parents[1] / 'old_files'
sys.path.append(str(OLD))
import make as old_files  # noqa: E402

CASES = {path.parent.name: json.loads(path.read_text()) for path in sorted(OLD.glob('*/case.json'))}


def tensors_in(folder: Path, layout: str) -> dict[str, torch.Tensor]:
    """What lies in the file, read without this project."""
    if layout in ('safetensors', 'shards'):
        return {name: tensor for path in folder.glob('*.safetensors') for name, tensor in load_file(path).items()}
    content = torch.load(folder / 'weights.pth', weights_only=True)
    if layout == 'run':
        return {name.removeprefix('backbone.'): tensor for name, tensor in content['state_dict'].items()
                if name.startswith('backbone.')}
    return content


@pytest.mark.parametrize('name', CASES)
def test_loads_bit_by_bit(name):
    case, folder = CASES[name], OLD / name
    model = old_files.built(case['model'] | dict(
        init_cfg=dict(type='Pretrained', checkpoint=str(folder / case['file']))))
    model.init_weights()
    state, given = model.state_dict(), tensors_in(folder, case['layout'])
    assert sorted(given) == case['keys']
    # the first files say it, too, where the map is 0 1 2 ...
    assert all(key.endswith('.layer_map') and torch.equal(given.pop(key), torch.arange(2))
               for key in case['keys'] if key not in state)
    assert given.keys() == state.keys() and all(torch.equal(given[key], state[key]) for key in given)
    for one, two in zip(old_files.outputs(model), torch.load(folder / 'outputs.pth'), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-5)  # another processor rounds otherwise


@pytest.mark.parametrize('name', ['first-deit-cyclic', 'first-swin-mmdet'])
def test_loads_as_a_part_of_a_model(name):
    """By torch alone, as a runner resumes."""
    state = tensors_in(OLD / name, 'zip')
    model = nn.Sequential(old_files.built(CASES[name]['model']))
    model.load_state_dict({f'0.{key}': value for key, value in state.items()})
    assert all(torch.equal(value, state[key[2:]]) for key, value in model.state_dict().items())


def test_every_option_and_layout_has_a_file():
    given = {key for case in CASES.values() for key in case['model']}
    options = {*inspect.signature(expand).parameters} - {'backbone'}
    for backbone in (ScaleNetDeiT, ScaleNetSwin):
        options |= {*backbone.own_arguments()}
    assert options <= given, f'{sorted(options - given)}: add a case to {OLD}/make.py and run it'
    assert {case['layout'] for case in CASES.values()} == {*old_files.WRITERS}
    assert {*old_files.CASES} <= {*CASES}, 'run tests/old_files/make.py'


@pytest.mark.parametrize('name', sorted(path.parent.name for path in OLD.glob('*/run.json')))
def test_a_run_goes_on(name, tool, tmp_path):
    """With its optimizer and schedule, to where it went then."""
    shutil.copytree(OLD / name, tmp_path, dirs_exist_ok=True)
    tool('train.py', 'config.py', '--work-dir', 'work_dir', '--resume', 'epoch_1.pth')
    start, end = (torch.load(file, weights_only=False)['state_dict']
                  for file in ('epoch_1.pth', 'work_dir/epoch_3.pth'))
    expected = load_file('weights.safetensors')
    assert end.keys() == expected.keys()
    for key, value in expected.items():
        same = torch.isclose(end[key], value, rtol=1e-3, atol=1e-3)
        if key.endswith('qkv.bias'):
            # softmax takes the keys' bias out again: its gradient is the processor's rounding, of which AdamW makes
            # whole steps. That it is out is what the outputs below show
            same.chunk(3)[1].fill_(True)
        assert same.all(), key
    model, results = old_files.built(read_config('config.py').model), []
    for state in (end, expected):
        model.load_state_dict(state)
        results += old_files.outputs(model)
    torch.testing.assert_close(*results, rtol=1e-3, atol=1e-3)
    assert max((expected[key] - start[key]).abs().max() for key in start if start[key].is_floating_point()) > 0.01


def test_they_are_small():
    assert sum(path.stat().st_size for path in OLD.rglob('*') if path.is_file()) < 1e6
