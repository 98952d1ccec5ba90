"""What depth costs: time, memory and parameters of DeiT and Swin over scales 1 to 4, as lines and as a picture.

ScaleNet with its default adapters beside its unshared twin, the library's backbone with as many blocks, both without a
head, at 224 px and with one image. The time is that of a forward and a backward pass; all scales of a net run in turn,
so that a machine whose speed drifts does not decide. Memory is what the forward pass keeps for the backward pass.

    python tools/analysis_tools/cost_growth.py docs/results/cost.jsonl --threads 1
"""
import argparse
import gc
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from cost_plot import LIGHT_KIND, OURS, TWIN, draw
from costs import parameters
from get_flops import count_activation_bytes
from mmengine.logging import MMLogger
from opponents import build_opponent, build_ours
from timing import in_turn, seconds
from torch import nn

from mmscalenet.engine import UsageError, one_line_errors, whole_file
from mmscalenet.expansion.recompute import LIGHT

SCALES = (1, 2, 3, 4)
SHAPE = (3, 224, 224)
#: Name of a net -> what it is compared with, and which of its sizes.
NETS = {'DeiT-T': ('mmpretrain-vit', 'tiny'), 'DeiT-S': ('mmpretrain-vit', 'small'),
        'Swin-T': ('mmpretrain', 'tiny'), 'Swin-S': ('mmpretrain', 'small')}


def measure(net: str, rounds: int) -> Iterator[dict]:
    """A record of every kind and scale of a net: the seconds of each round, and what was counted."""
    models = {TWIN: [build_opponent(*NETS[net], scale) for scale in SCALES],
              OURS: [build_ours(*NETS[net], scale) for scale in SCALES]}
    for model in models[TWIN] + models[OURS]:
        model.train()
    timers = [partial(seconds, model, torch.randn(1, *SHAPE), True) for model in models[TWIN] + models[OURS]]
    times = iter(zip(*in_turn(timers, rounds), strict=True))
    for kind, kind_models in models.items():
        for scale, model in zip(SCALES, kind_models, strict=True):
            yield _counted(net, kind, scale, model) | dict(seconds=next(times))
    for scale in SCALES:
        yield _counted(net, LIGHT_KIND, scale, build_ours(*NETS[net], scale, with_cp=LIGHT))


def _counted(net: str, kind: str, scale: int, model: nn.Module) -> dict:
    record = dict(net=net, kind=kind, scale=scale, parameters=parameters(model),
                  kept_bytes=count_activation_bytes(model, SHAPE))
    gc.collect()  # the graphs of counted passes refer to themselves
    return record


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('lines', type=Path, help='file for the lines (.jsonl); the picture gets its name, with .png')
    parser.add_argument('--nets', nargs='+', default=list(NETS), choices=list(NETS))
    parser.add_argument('--rounds', type=int, default=7, help='default: %(default)s')
    parser.add_argument('--threads', type=int, help='CPU threads; defaults to what torch takes')
    parser.add_argument('--redraw', action='store_true', help='draw what is in the file; nothing is measured')
    return parser.parse_args()


@one_line_errors
def main() -> None:
    args = parse_args()
    MMLogger.get_current_instance().setLevel('ERROR')
    if args.threads:
        torch.set_num_threads(args.threads)
    if not args.redraw:
        with whole_file(args.lines) as path, open(path, 'w') as file:
            for net in args.nets:
                for record in measure(net, args.rounds):
                    print(json.dumps(record), file=file)
                    print(*record.values(), flush=True)
    elif not args.lines.exists():
        raise UsageError(f'--redraw needs lines, and "{args.lines}" does not exist.')
    draw([json.loads(line) for line in args.lines.read_text().splitlines()], args.lines.with_suffix('.png'))


if __name__ == '__main__':
    main()
