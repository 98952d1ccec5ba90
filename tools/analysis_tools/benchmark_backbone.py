"""Compare ScaleNet with the Swin of mmpretrain and mmdet and the ViT of mmpretrain of the same depth.

First times, in training and inference. All run in turn and every ratio is of neighbours, so that a machine whose speed
drifts does not decide. A ratio above 1 means that ours is faster. A line for the matrix products alone, run on random
tensors, says how much of its time each model spends in them: nothing but other kernels makes that part faster.

Then what training costs besides time: parameters, what a forward pass keeps for the backward pass, what AdamW holds,
and what two processes all-reduce in a step. With ``--scale 2`` the opponents are the parents with twice the blocks.
"""
import argparse
import os
import shlex
import statistics
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from costs import costs
from matrix_products import products_of
from mmengine.logging import MMLogger
from opponents import ARCHS, OPPONENTS, SIZES, build_pair
from reduced_bytes import reduced_bytes
from timing import clocked, in_turn, seconds
from torch import nn

from mmscalenet.engine import UsageError, one_line_errors, whole_file


def time_rows(models: tuple[nn.Module, nn.Module], image: torch.Tensor, training: bool,
              args: argparse.Namespace) -> Iterator[list[str]]:
    """Mode, rounds, both times and their ratio: of the models (opponent, ours), and of their matrix products alone."""
    products = [products_of(model, image, training) for model in models]
    runs = compiled_runs() if args.compile else [nn.Module.__call__] * 2
    times = in_turn([*(partial(seconds, model, image, training, run) for model, run in zip(models, runs, strict=True)),
                     *(partial(clocked, product.run, image.is_cuda) for product in products)],
                    args.rounds, args.seconds)
    theirs, ours, *alone = zip(*times, strict=True)
    mode = 'training' if training else 'inference'
    yield [mode, str(len(times)), *(f'{statistics.median(own):.3f}' for own in (theirs, ours)), ratio(theirs, ours)]
    shares = (statistics.median(part / whole for part, whole in zip(*pair, strict=True))
              for pair in zip(alone, (theirs, ours), strict=True))
    yield [f'{mode}, matrix products alone', str(len(times)),
           *(f'{statistics.median(own):.3f} = {share:.0%}' for own, share in zip(alone, shares, strict=True)),
           ratio(*alone)]


def compiled_runs() -> tuple[Callable, Callable]:
    """What calls the opponent and what calls ours, which is one graph.

    Both run the forward of the parent. Compiled as modules they would share what torch notes of its code: ours would
    break where the parent does.
    """
    torch.compiler.reset()  # each row begins anew: there is a limit to how often a function is compiled
    return (torch.compile(lambda model, image: model(image), dynamic=False),
            torch.compile(lambda model, image: model(image), dynamic=False, fullgraph=True))


def ratio(theirs: tuple[float, ...], ours: tuple[float, ...]) -> str:
    """Median, lowest and highest of the rounds."""
    ratios = sorted(a / b for a, b in zip(theirs, ours, strict=True))
    return f'{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})'


def cost_rows(opponent: str, size: str, args: argparse.Namespace) -> Iterator[list[str]]:
    """What it is, both figures, and ours as a part of the opponent's."""
    build = partial(build_pair, opponent, args.arch, args.scale, args.adapter)
    shape = (3, *SIZES[size])
    theirs, ours = (costs(model.to(args.device), shape) for model in build())
    for cell, reduced in zip((theirs, ours), reduced_bytes(build, shape), strict=True):
        cell['all-reduced a step by each of two processes (MiB)'] = reduced / 2**20
    for name, figure in theirs.items():
        yield [name, f'{figure:.2f}', f'{ours[name]:.2f}', f'{ours[name] / figure:.3f}']


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--arch', default='tiny', choices=ARCHS, help='Swin\'s or DeiT\'s; default: %(default)s')
    parser.add_argument('--scale', type=int, default=1, help='positions per block; the opponents get as many blocks')
    parser.add_argument('--adapter', action='store_true', help='ours with adapters: more work than the opponents do')
    parser.add_argument('--compile', action='store_true', help='both through torch.compile, ours as one graph')
    parser.add_argument('--sizes', nargs='+', default=list(SIZES), choices=list(SIZES))
    parser.add_argument('--libraries', nargs='+', default=list(OPPONENTS), choices=list(OPPONENTS),
                        help='opponents: the Swin of mmpretrain and of mmdet, and mmpretrain\'s ViT, at 224 alone')
    parser.add_argument('--batch-size', type=int, default=1)
    parser.add_argument('--rounds', type=int, default=7, help='of each row, at least; default: %(default)s')
    parser.add_argument('--seconds', type=float, default=30., help='of each row, at least; default: %(default)s')
    parser.add_argument('--threads', type=int, help='CPU threads; defaults to what torch takes')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--out', type=Path, help='also write the tables to this file, with the command that made them')
    return parser.parse_args()


def report(args: argparse.Namespace, chosen: list[tuple[str, str]]) -> Iterator[str]:
    """The lines of both tables; ``chosen`` are opponents and sizes."""
    # first, as other processes print while they start
    counted = [f'| {opponent} | {size} | {" | ".join(cells)} |' for opponent, size in chosen
               for cells in cost_rows(opponent, size, args)]
    yield f'    {shlex.join(["python", os.path.relpath(sys.argv[0]), *sys.argv[1:]])}'
    yield ''
    yield (f'torch {torch.__version__}, {args.device}, {torch.get_num_threads()} thread(s). Ratio: opponent / ours, '
           'median (lowest to highest) of neighbouring runs. Percent: of the time of the model in the row above.')
    yield ''
    yield '| opponent | image | mode | rounds | opponent, s | ours, s | ratio |'
    yield '|---|---|---|---|---|---|---|'
    for opponent, size in chosen:
        models = tuple(model.to(args.device) for model in build_pair(opponent, args.arch, args.scale, args.adapter))
        image = torch.randn(args.batch_size, 3, *SIZES[size], device=args.device)
        for training in (False, True):
            for cells in time_rows(models, image, training, args):
                yield f'| {opponent} | {size} | {" | ".join(cells)} |'
    yield ''
    yield '| opponent | image | what | opponent\'s | ours | ours / opponent\'s |'
    yield '|---|---|---|---|---|---|'
    yield from counted


@one_line_errors
def main() -> None:
    args = parse_args()
    MMLogger.get_current_instance().setLevel('ERROR')
    chosen = [(opponent, size) for opponent in args.libraries for size in args.sizes if size in OPPONENTS[opponent]]
    if not chosen:
        raise UsageError(f'--libraries {" ".join(args.libraries)} does not run at --sizes {" ".join(args.sizes)}; '
                         'add 224.')
    if args.threads:
        torch.set_num_threads(args.threads)
    lines = []
    for line in report(args, chosen):
        print(line, flush=True)
        lines.append(line)
    if args.out:
        with whole_file(args.out) as path:
            path.write_text('\n'.join(lines) + '\n')


if __name__ == '__main__':
    main()
