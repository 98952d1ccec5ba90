"""NonFiniteHook in real runs, into which a fault is planted at a known place."""
import re
from pathlib import Path

import pytest
import torch

TOOLS = Path(__file__).resolve().parents[2] / 'tools'
POSITION = 'backbone.layers.positions.{}'
#: A module of the user's that breaks something in iteration 4 of 6, in one process.
PLANT = '''
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.registry import HOOKS, OPTIM_WRAPPERS


@HOOKS.register_module()
class Plant(Hook):
    def __init__(self, kind, name, rank=0):
        self.kind, self.name, self.rank = kind, name, rank

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter != 3 or get_rank() != self.rank:
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if self.kind == 'weight':
            model.get_parameter(self.name).data.fill_(torch.inf)
        elif self.kind == 'gradient of a parameter':
            model.get_parameter(self.name).register_hook(lambda grad: grad * torch.nan)
        elif self.kind == 'gradient of an output':
            model.get_submodule(self.name).register_forward_hook(
                lambda module, inputs, out: self.spoil(out))

    def spoil(self, out):
        if out.requires_grad:
            out.register_hook(lambda grad: grad * torch.inf)


@OPTIM_WRAPPERS.register_module()
class Skipping(OptimWrapper):
    """As with a scaled loss: no step where a gradient is infinite."""

    def step(self, **kwargs):
        if all(p.grad is None or p.grad.isfinite().all() for group in self.param_groups for p in group['params']):
            super().step(**kwargs)
'''


@pytest.fixture
def planted(cls_fields, write_config, tmp_path, monkeypatch):
    """A config of a run with the hook and a fault."""
    (tmp_path / 'plant.py').write_text(PLANT)
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(kind: str, name: str, rank: int = 0, **changes) -> Path:
        cls_fields['custom_imports']['imports'].append('plant')
        cls_fields['custom_hooks'] = [dict(type='mmscalenet.NonFiniteHook'),
                                      dict(type='Plant', kind=kind, name=name, rank=rank)]
        return write_config(cls_fields | changes)

    return make


def error_of(tool, config: Path, capsys) -> str:
    with pytest.raises(SystemExit) as stopped:
        tool('train.py', config)
    assert stopped.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize('kind, name, expected', [
    ('weight', f'{POSITION.format(2)}.adapter.up.weight',
     f'at the output of {POSITION.format(2)} (it runs block 0): the first one appeared in it'),
    # a block that runs twice, at positions 1 and 3
    ('weight', 'backbone.layers.1.attn.qkv.bias', f'at the output of {POSITION.format(1)} (it runs block 1)'),
    ('weight', 'backbone.patch_embed.projection.bias', f'in the input of the first position, {POSITION.format(0)}'),
    ('weight', 'head.layers.head.weight', 'loss is nan, and all positions are finite'),
    ('gradient of a parameter', f'{POSITION.format(3)}.adapter.up.weight',
     f'the parameter {POSITION.format(3)}.adapter.up.weight after the step; forward pass, loss and the gradients at '
     'all positions are finite'),
    # broken on its way into position 2, so first seen at what leaves position 1
    ('gradient of an output', POSITION.format(2),
     f'the gradient is [a-z]+ first, from behind, at the output of {POSITION.format(1)} (it runs block 1)'),
])
def test_says_where_it_appeared(kind, name, expected, planted, tool, tmp_path, capsys):
    error = error_of(tool, planted(kind, name), capsys)
    pattern = re.escape(expected).replace(re.escape('[a-z]+'), '[a-z]+')
    assert error.count('\n') == 1 and 'iteration 4, process 0: ' in error and re.search(pattern, error), error
    assert 'Start from the last checkpoint' in error
    assert [path.name for path in (tmp_path / 'work_dirs/tiny').glob('epoch_*.pth')] == ['epoch_1.pth']
    log, = (tmp_path / 'work_dirs/tiny').glob('*/*.log')
    assert f'{POSITION.format(0)}: output ' in log.read_text()  # the magnitudes of the pass that broke


def test_a_skipped_step_ends_nothing(planted, tool, tmp_path):
    """Infinite gradients are common with a scaled loss, and the step is left out."""
    config = planted('gradient of an output', POSITION.format(2),
                     optim_wrapper=dict(type='Skipping', optimizer=dict(type='SGD', lr=0.01)))
    tool('train.py', config)
    assert (tmp_path / 'work_dirs/tiny/epoch_3.pth').exists()


@pytest.mark.parametrize('options', [dict(with_cp=True), dict(gate=0., depth=3)], ids=str)
def test_goes_with_options(options, planted, tool, capsys, cls_fields):
    cls_fields['model']['backbone'].update(options)
    error = error_of(tool, planted('weight', f'{POSITION.format(2)}.adapter.up.weight'), capsys)
    assert f'at the output of {POSITION.format(2)} (it runs block 0)' in error


def test_leaves_a_run_as_it_is(cls_fields, write_config, tool, tmp_path):
    cls_fields['custom_hooks'] = [dict(type='mmscalenet.NonFiniteHook')]
    tool('train.py', write_config(cls_fields, 'watched'))
    cls_fields['custom_hooks'] = []
    tool('train.py', write_config(cls_fields, 'alone'))
    one, two = (torch.load(tmp_path / f'work_dirs/{name}/epoch_3.pth', weights_only=False)['state_dict']
                for name in ('watched', 'alone'))
    assert one.keys() == two.keys() and all(torch.equal(value, two[name]) for name, value in one.items())


def test_needs_positions(cls_fields, write_config, tool, capsys):
    cls_fields['model']['backbone'] = {
        key: value for key, value in cls_fields['model']['backbone'].items() if key != 'scale'} | dict(
            type='VisionTransformer')
    cls_fields['custom_hooks'] = [dict(type='mmscalenet.NonFiniteHook')]
    assert 'has no expanded backbone' in error_of(tool, write_config(cls_fields), capsys)


@pytest.mark.slow
def test_compiled(planted, tool, capsys):
    """Under torch.compile as without."""
    error = error_of(tool, planted('weight', f'{POSITION.format(2)}.adapter.up.weight', compile=True), capsys)
    assert f'at the output of {POSITION.format(2)} (it runs block 0)' in error


@pytest.mark.slow
def test_two_processes(planted, shell, tmp_path):
    """The process in which it appeared is named, and both end."""
    config = planted('weight', f'{POSITION.format(2)}.adapter.up.weight', rank=1,
                     train_cfg=dict(by_epoch=True, max_epochs=6))
    done = shell('bash', TOOLS / 'dist_train.sh', config, 2, PORT='29577', PYTHONPATH=str(tmp_path))
    assert done.returncode
    assert re.search(rf'iteration 4, process 1: \w+ at the output of {POSITION.format(2)}', done.stderr), done.stderr
