"""Time and memory of a config's backbone under different settings, each against the first.

The variants run in turn and every ratio is of neighbours, so that a machine whose speed drifts does not decide. A ratio
above 1 means slower than the first. Multiply-adds and activations as in get_flops.py. The peak memory is that of a
training step: on a GPU all that torch allocates, on a CPU (Linux) what a process takes beyond libraries and weights.
With --amp under mixed precision, whose copies of the weights count as activations.

    python tools/analysis_tools/benchmark_config.py configs/mask_rcnn_scalenet_deit.py --shape 800 1333 \\
        --variants window_size=14 window_size=0
"""
import argparse
import multiprocessing
import os
import re
import shlex
import statistics
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import torch
from get_flops import build, count_activation_bytes, count_multiply_adds, table
from mmengine.config import Config, DictAction
from mmengine.logging import MMLogger
from timing import seconds
from torch import nn

from mmscalenet.engine import UsageError, add_depth_argument, one_line_errors, read_config, use_depth, whole_file
from mmscalenet.engine.optimizers.cpu_amp import layer_norm_in_float32

#: Where Linux forgets the highest memory of a process so far.
PEAK_RESET = Path('/proc/self/clear_refs')


def variant_config(path: str, settings: str, depth: list[int] | None = None) -> Config:
    """The config with ``settings`` (key=value, several with blanks between) in its backbone, which has ``depth``."""
    words = settings.split()
    if not all('=' in word for word in words):
        raise UsageError(f'--variants "{settings}" is not allowed: give key=value, several in quotes with blanks '
                         'between, or "" for the config as it stands.')
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='*', action=DictAction)
    options = parser.parse_args(['--cfg-options', *(f'model.backbone.{word}' for word in words)]).cfg_options
    cfg = read_config(path, options)
    use_depth(cfg, depth)
    return cfg


def precision(device: str, amp: bool) -> torch.autocast:
    """That of a training, with or without ``--amp``."""
    if amp and device == 'cpu':
        layer_norm_in_float32()
    return torch.autocast(device, enabled=amp)


def run_with(amp: bool, model: nn.Module, image: torch.Tensor) -> object:
    with precision(image.device.type, amp):
        return model(image)


def activation_bytes(model: nn.Module, shape: tuple[int, int, int], amp: bool) -> int:
    with precision('cpu', amp):
        return count_activation_bytes(model, shape)


def gpu_peak_bytes(model: nn.Module, image: torch.Tensor, run: Callable) -> int:
    torch.cuda.reset_peak_memory_stats()
    seconds(model.train(), image, True, run)
    return torch.cuda.max_memory_allocated()


def cpu_peak_bytes(cfg: Config, image_shape: list[int], run: Callable) -> int:
    with ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as pool:
        return pool.submit(_own_peak_bytes, cfg, image_shape, torch.get_num_threads(), run).result()


def _own_peak_bytes(cfg: Config, image_shape: list[int], threads: int, run: Callable) -> int:
    torch.set_num_threads(threads)
    model, image = build(cfg, backbone=True).train(), torch.randn(image_shape)
    PEAK_RESET.write_text('5')  # or the peak is that of the imports
    before = _highest_bytes()
    seconds(model, image, True, run)
    return _highest_bytes() - before


def _highest_bytes() -> int:
    return int(re.search(r'VmHWM:\s*(\d+)', Path('/proc/self/status').read_text())[1]) * 1024


def rounds_of(models: list[nn.Module], image: torch.Tensor, training: bool, rounds: int,
              run: Callable) -> list[list[float]]:
    """Seconds of every model in every round, after one that does not count."""
    times = [[seconds(model.train(training), image, training, run) for model in models] for _ in range(rounds + 1)]
    return list(zip(*times[1:], strict=True))


def against_first(times: list[list[float]]) -> list[str]:
    """Median seconds and the median ratio to the first model's, with its range."""
    cells = []
    for own in times:
        ratios = sorted(a / b for a, b in zip(own, times[0], strict=True))
        cells.append(f'{statistics.median(own):.3f}' + (
            '' if own is times[0] else f' = {statistics.median(ratios):.2f}x ({ratios[0]:.2f} to {ratios[-1]:.2f})'))
    return cells


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config')
    parser.add_argument('--variants', nargs='+', required=True, metavar='SETTINGS',
                        help='settings of the backbone, each "key=value key=value", or "" for the config as it stands')
    parser.add_argument('--shape', nargs=2, type=int, default=[800, 1333], help='height and width; default: 800 1333')
    add_depth_argument(parser)
    parser.add_argument('--batch-size', type=int, default=1)
    parser.add_argument('--amp', action='store_true', help='mixed precision: bfloat16 on a CPU, float16 on a GPU')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--threads', type=int, help='CPU threads; defaults to what torch takes')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--out', type=Path, help='markdown file to write, with the command that made it')
    return parser.parse_args()


@one_line_errors
def main() -> None:
    args = parse_args()
    MMLogger.get_instance('benchmark_config', log_level='ERROR')
    if args.threads:
        torch.set_num_threads(args.threads)
    configs = [variant_config(args.config, settings, args.depth) for settings in args.variants]
    models = [build(cfg, backbone=True) for cfg in configs]
    channels, run = configs[0].model.backbone.get('in_channels', 3), partial(run_with, args.amp)
    rows = [{
        'backbone': f'`{settings}`' if settings else 'as in the config',
        'multiply-adds (G)': f'{count_multiply_adds(model, (channels, *args.shape)) / 1e9:.1f}',
        'activations (MiB per image)': f'{activation_bytes(model, (channels, *args.shape), args.amp) / 2**20:.0f}',
    } for settings, model in zip(args.variants, models, strict=True)]
    models = [model.to(args.device) for model in models]
    image = torch.randn(args.batch_size, channels, *args.shape, device=args.device)
    for row, cfg, model in zip(rows, configs, models, strict=True):
        if image.is_cuda:
            row['peak in training (MiB)'] = f'{gpu_peak_bytes(model, image, run) / 2**20:.0f}'
        elif PEAK_RESET.exists():
            row['peak in training (MiB)'] = f'{cpu_peak_bytes(cfg, image.shape, run) / 2**20:.0f}'
    for name, training in (('inference (s)', False), ('training (s)', True)):
        for row, cell in zip(rows, against_first(rounds_of(models, image, training, args.rounds, run)), strict=True):
            row[name] = cell
            print(*row.values(), sep='  ', flush=True)
    text = table(rows)
    print(f'\n{text}')
    if args.out:
        command = shlex.join(['python', os.path.relpath(sys.argv[0]), *sys.argv[1:]])
        with whole_file(args.out) as path:
            path.write_text(f'Made by `{command}` with torch {torch.__version__}, {args.device}, '
                            f'{torch.get_num_threads()} thread(s), {args.rounds} rounds in turn.\n\n{text}\n')


if __name__ == '__main__':
    main()
