"""Time ScaleNetSwin against the Swin of mmpretrain and mmdet of the same depth, in training and inference.

The two run in turn and every ratio is of neighbours, so that a machine whose speed drifts does not decide. A ratio
above 1 means that ours is faster. With ``--scale 2`` the opponents are the parents built with twice the blocks.
"""
import argparse
import copy
import statistics
from pathlib import Path

import torch
from mmdet.models import SwinTransformer as MMDetSwin
from mmengine.logging import MMLogger
from mmpretrain.models import SwinTransformer as MMPretrainSwin
from timing import seconds
from torch import nn

from mmscalenet import ScaleNetSwin

SIZES = {'224': (224, 224), '512': (512, 512), '800x1333': (800, 1333)}


def build_pair(library: str, arch: str, scale: int, adapter: bool) -> tuple[nn.Module, nn.Module]:
    """(opponent, ours): the parent with all its blocks of its own, and ScaleNet of the same depth."""
    zoo = MMPretrainSwin.arch_zoo[arch]
    deep = dict(zoo, depths=[scale * depth for depth in zoo['depths']])
    options = dict(scale=scale, adapter=dict(type='ParallelAdapter') if adapter else None, out_indices=(0, 1, 2, 3))
    if library == 'mmpretrain':
        common = dict(out_indices=(0, 1, 2, 3), pad_small_map=True)
        return MMPretrainSwin(arch=deep, **common), ScaleNetSwin(arch=copy.deepcopy(zoo), **{**common, **options})
    return MMDetSwin(**deep), ScaleNetSwin(base='mmdet.SwinTransformer', **copy.deepcopy(zoo), **options)


def compare(opponent: nn.Module, ours: nn.Module, image: torch.Tensor, training: bool, rounds: int,
            least: float) -> tuple[float, float, list[float]]:
    """Median seconds of both and the sorted ratios opponent / ours of rounds in turn.

    ``rounds`` of them, and more until they have taken ``least`` seconds: short runs scatter more.
    """
    for model in (opponent, ours):
        model.train(training)
        seconds(model, image, training)
    pairs = []
    while len(pairs) < rounds or sum(map(sum, pairs)) < least:
        pairs.append((seconds(opponent, image, training), seconds(ours, image, training)))
    return (statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs),
            sorted(a / b for a, b in pairs))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--arch', default='tiny', choices=['tiny', 'small', 'base', 'large'])
    parser.add_argument('--scale', type=int, default=1, help='positions per block; the opponents get as many blocks')
    parser.add_argument('--adapter', action='store_true', help='ours with adapters: more work than the opponents do')
    parser.add_argument('--sizes', nargs='+', default=list(SIZES), choices=list(SIZES))
    parser.add_argument('--libraries', nargs='+', default=['mmpretrain', 'mmdet'], choices=['mmpretrain', 'mmdet'])
    parser.add_argument('--batch-size', type=int, default=1)
    parser.add_argument('--rounds', type=int, default=7, help='of each row, at least; default: %(default)s')
    parser.add_argument('--seconds', type=float, default=30., help='of each row, at least; default: %(default)s')
    parser.add_argument('--threads', type=int, help='CPU threads; defaults to what torch takes')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--out', type=Path, help='also write the table to this file, with the command that made it')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    MMLogger.get_current_instance().setLevel('ERROR')
    if args.threads:
        torch.set_num_threads(args.threads)
    options = ' '.join(f'--{name.replace("_", "-")} {" ".join(map(str, value)) if isinstance(value, list) else value}'
                       for name, value in vars(args).items()
                       if name not in ('out', 'adapter') and value is not None)
    lines = [f'    python tools/analysis_tools/benchmark_backbone.py {options}{" --adapter" * args.adapter}', '',
             f'torch {torch.__version__}, {args.device}, {torch.get_num_threads()} thread(s). '
             'Ratio: opponent / ours, median (lowest to highest) of neighbouring runs.', '',
             '| opponent | image | mode | rounds | opponent, s | ours, s | ratio |', '|---|---|---|---|---|---|---|']
    print('\n'.join(lines), flush=True)
    for library in args.libraries:
        opponent, ours = (m.to(args.device) for m in build_pair(library, args.arch, args.scale, args.adapter))
        for size in args.sizes:
            image = torch.randn(args.batch_size, 3, *SIZES[size], device=args.device)
            for training in (False, True):
                theirs, mine, ratios = compare(opponent, ours, image, training, args.rounds, args.seconds)
                ratio = f'{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})'
                lines.append(f'| {library} | {size} | {"training" if training else "inference"} | {len(ratios)} | '
                             f'{theirs:.3f} | {mine:.3f} | {ratio} |')
                print(lines[-1], flush=True)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text('\n'.join(lines) + '\n')


if __name__ == '__main__':
    main()
