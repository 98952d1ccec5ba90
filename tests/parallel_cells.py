"""The cells of the matrix of parallel trainings: what each trains, and what comes of it."""
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path

import torch
from torch import Tensor

from mmscalenet.checkpoints import read_checkpoint

TESTS = Path(__file__).resolve().parent
MODES = ('DDP', 'static graph', 'find_unused', 'ZeRO', 'FSDP')
CHECKPOINTING = ('none', 'with_cp', 'mmengine')
MODELS = ('DeiT', 'Swin', 'Mask R-CNN', 'UperNet')
EXTRAS = ('EMA', 'clip_grad', "freeze='base'", 'gate', 'elastic depth')
#: Of :func:`difference` with float32, of :func:`distance` with bfloat16, which has 8 bits.
BOUNDS = dict(fp32=1e-4, bf16=0.05)


@dataclass(frozen=True)
class Cell:
    """A training: of one process with the joint batch if ``mode`` is None."""
    model: str
    mode: str | None
    checkpointing: str = 'none'
    accumulation: int = 1
    dtype: str = 'fp32'
    extra: str = ''

    @property
    def name(self) -> str:
        words = [str(value) for value in asdict(self).values()]
        return ''.join(letter if letter.isalnum() else '_' for letter in '-'.join(words))

    @property
    def reference(self) -> 'Cell':
        return replace(self, mode=None, checkpointing='none')


def all_cells() -> Iterator[Cell]:
    for values in product(MODELS, MODES, CHECKPOINTING, (1, 2), ('fp32', 'bf16')):
        yield Cell(*values)
    for model, mode, accumulation, extra in product(('DeiT', 'Swin'), MODES, (1, 2), EXTRAS):
        for checkpointing in ('none', 'mmengine') if extra == "freeze='base'" else ('none', ):
            yield Cell(model, mode, checkpointing, accumulation, extra=extra)


def refusal(cell: Cell) -> str | None:
    """Words of the line with which a cell that cannot work is refused."""
    if cell.model == 'Mask R-CNN' and cell.dtype == 'bf16':
        return 'mixed precision of a detector needs a GPU'
    if cell.mode == 'static graph' and cell.accumulation > 1:
        return 'static_graph=True does not go with accumulative_counts=2'
    if cell.mode == 'static graph' and cell.extra == 'elastic depth':
        return 'DepthHook changes which'
    if cell.mode == 'FSDP' and cell.extra == 'elastic depth':
        return 'leave out DepthHook'
    if cell.mode == 'FSDP' and cell.extra == 'EMA':
        return 'EMAHook copies the model'
    if cell.mode == 'FSDP' and cell.extra == 'clip_grad':
        return 'clip_grad takes the norm'
    return None


def config_of(cell: Cell, models: dict[str, dict]) -> dict:
    """The fields of the config of a cell, with the model and the data of ``models``."""
    fields = deepcopy(models[cell.model])
    backbone, wrapper = fields['model']['backbone'], fields['optim_wrapper']
    hooks = fields['custom_hooks'] = [dict(type='GradientRecorder')]
    if cell.mode is None:
        fields['train_dataloader']['batch_size'] *= 2
    wrapper['accumulative_counts'] = cell.accumulation
    if cell.dtype == 'bf16':
        wrapper['type'] = 'AmpOptimWrapper'
        # two steps: in later ones the weights themselves have gone apart, as all rounding makes them
        epochs = fields['train_cfg']['max_epochs'] = cell.accumulation
        fields['default_hooks']['checkpoint']['interval'] = epochs

    if cell.checkpointing == 'with_cp':
        backbone['with_cp'] = True
    elif cell.checkpointing == 'mmengine' and cell.mode != 'FSDP':
        fields['activation_checkpointing'] = block_names(backbone)

    if cell.extra == 'EMA':
        hooks.append(dict(type='EMAHook', momentum=0.3))
    elif cell.extra == 'clip_grad':
        wrapper['clip_grad'] = dict(max_norm=0.01)
    elif cell.extra == "freeze='base'":
        backbone['freeze'] = 'base'
    elif cell.extra == 'gate':
        backbone['gate'] = 0.5
    elif cell.extra == 'elastic depth':
        hooks.append(dict(type='mmscalenet.DepthHook', mode='elastic'))

    if cell.mode == 'static graph':
        fields['model_wrapper_cfg'] = dict(type='MMDistributedDataParallel', broadcast_buffers=False, static_graph=True)
    elif cell.mode == 'find_unused':
        fields['find_unused_parameters'] = True
    elif cell.mode == 'ZeRO':
        optimizer = wrapper['optimizer']
        wrapper['optimizer'] = optimizer | dict(type='ZeroRedundancyOptimizer', optimizer_type=optimizer['type'])
    elif cell.mode == 'FSDP':
        fields['runner_type'] = 'FlexibleRunner'
        fields['strategy'] = dict(type='FSDPStrategy', state_dict_cfg='full',
                                  model_wrapper=dict(type='MMFullyShardedDataParallel', auto_wrap_policy='is_block'))
        if cell.checkpointing == 'mmengine':
            fields['strategy']['activation_checkpointing'] = dict(check_fn='is_block')
    return fields


def block_names(backbone: dict) -> list[str]:
    depths = backbone.get('depths') or backbone['arch'].get('depths')
    if depths is None:
        return [f'backbone.layers.{block}' for block in range(backbone['arch']['num_layers'])]
    return [f'backbone.stages.{stage}.blocks.{block}' for stage, depth in enumerate(depths) for block in range(depth)]


def train_in_two(configs: list[Path]) -> dict[Path, str]:
    """Train on each config in the same two processes; new ones where these have failed. Returns the failures."""
    failed, waiting = {}, list(configs)
    while waiting:
        command = [os.environ.get('PYTHON', sys.executable), TESTS.parent / 'tools/dist_launch.py', 2,
                   TESTS / 'parallel_worker.py', *waiting]
        result = subprocess.run([str(word) for word in command], capture_output=True, text=True,
                                env=os.environ | dict(OMP_NUM_THREADS='1'))
        done = [config for config in waiting if read_outcome(config)]
        waiting = waiting[len(done):]
        if result.returncode:
            assert waiting, result.stderr[-3000:]
            said = re.findall(r'^\[rank\d+\]: (\w*Error: .*)', result.stderr, re.MULTILINE)
            failed[waiting.pop(0)] = said[-1] if said else result.stderr[-3000:]
    return failed


def read_outcome(config: Path) -> str | dict | None:
    """Why a training was refused, or what it came to; None where it has not ended."""
    work_dir = config.with_suffix('')
    if (work_dir / 'refused.txt').exists():
        return (work_dir / 'refused.txt').read_text()
    ranks = sorted(work_dir.glob('rank*.pth'))
    checkpoints = sorted(work_dir.glob('epoch_*.pth'))
    if not ranks or not checkpoints:
        return None
    checkpoint = read_checkpoint(checkpoints[-1])
    ranks = [torch.load(rank) for rank in ranks]
    saved = {name: {key: value for key, value in checkpoint.get(name, {}).items() if value.is_floating_point()}
             for name in ('state_dict', 'ema_state_dict')}
    saved['momentum'] = {key if isinstance(key, str) else ranks[0]['names'][key]: state['momentum_buffer']
                         for key, state in checkpoint['optimizer']['state'].items()}
    return dict(ranks=ranks, saved=saved)


def difference(one: dict[str, Tensor], two: dict[str, Tensor]) -> float:
    """The largest difference of two sets of tensors, each relative to the largest number in it.

    Numbers that are but noise, as gradients of what a norm takes out again, are compared with the set's largest.
    """
    assert one.keys() == two.keys() and one, set(one) ^ set(two)
    largest = max(value.abs().max().item() for value in two.values())
    assert largest > 0, 'nothing to compare'
    return max((value - two[name]).abs().max().item() / max(two[name].abs().max().item(), 1e-3 * largest)
               for name, value in one.items())


def distance(one: dict[str, Tensor], two: dict[str, Tensor]) -> float:
    """Of two sets of tensors as a whole, relative to the second's norm: where the smallest of them are noise."""
    assert one.keys() == two.keys() and one, set(one) ^ set(two)
    squares = [torch.stack([value.square().sum() for value in values]).sum() for values in (
        [value - two[name] for name, value in one.items()], two.values())]
    return (squares[0] / squares[1]).sqrt().item()


def compare(outcome: dict, reference: dict, dtype: str) -> dict[str, float]:
    """The differences of gradients and weights, of every process and of the file."""
    measure = difference if dtype == 'fp32' else distance
    expected, = reference['ranks']
    steps = len(expected['gradients'])
    assert steps > 1 and all(len(rank['gradients']) == steps for rank in outcome['ranks'])
    gradients = [measure(rank['gradients'][step], expected['gradients'][step])
                 for rank in outcome['ranks'] for step in range(steps)]
    weights = [measure(rank['weights'], expected['weights']) for rank in outcome['ranks']]
    saved = [measure(outcome['saved'][name], values) for name, values in reference['saved'].items() if values]
    return dict(steps=steps, gradients=max(gradients), weights=max(weights), saved=max(saved))


def table(lines: list[dict]) -> str:
    """The matrix as Markdown, from lines of :func:`line`."""
    reasons = []

    def shown(model: str, mode: str, checkpointing: str, accumulation: int, dtype: str, extra: str = '') -> str:
        found, = [line for line in lines if line['cell'] == asdict(Cell(
            model, mode, checkpointing, accumulation, dtype, extra))]
        if 'refused' not in found:
            return f'{found["gradients"]:.0e}' if 'gradients' in found else 'fails'
        if found['refused'] not in reasons:
            reasons.append(found['refused'])
        return f'refused ({reasons.index(found["refused"]) + 1})'

    columns = list(product(MODES, (1, 2)))
    head = ' | '.join(f'{mode}, {accumulation}' for mode, accumulation in columns)
    rule = '---|' * (len(columns) + 1)
    text = [f'| model, precision, checkpointing | {head} |', f'|{rule}']
    for model, dtype, checkpointing in product(MODELS, BOUNDS, CHECKPOINTING):
        cells = ' | '.join(shown(model, mode, checkpointing, accumulation, dtype) for mode, accumulation in columns)
        text.append(f'| {model}, {dtype}, {checkpointing} | {cells} |')
    text += ['', f'| model, option | {head} |', f'|{rule}']
    for model, extra in product(('DeiT', 'Swin'), EXTRAS):
        for checkpointing in ('none', 'mmengine') if extra == "freeze='base'" else ('none', ):
            cells = ' | '.join(shown(model, mode, checkpointing, accumulation, 'fp32', extra)
                               for mode, accumulation in columns)
            text.append(f'| {model}, {extra}{", mmengine checkpointing" * (checkpointing != "none")} | {cells} |')
    return '\n'.join([*text, '', *(f'{number}. {reason}' for number, reason in enumerate(reasons, 1)), ''])


def write_results(lines: list[dict], folder: Path) -> None:
    (folder / 'parallel').mkdir(exist_ok=True)
    (folder / 'parallel/cells.jsonl').write_text(''.join(f'{json.dumps(line)}\n' for line in lines))
    page = folder / 'parallel.md'
    before = page.read_text().partition('<!-- made by the test -->')[0]
    page.write_text(f'{before}<!-- made by the test -->\n\n{table(lines)}')
