"""Which expansions of a net fit a budget: depths, layer maps, cores and widths of adapters, with what they cost.

The config is one of a ScaleNet, or any of mmpretrain, mmdet or mmseg with a plain Swin or VisionTransformer, which is
then taken as a ScaleNet. What it says of scale, layer_map, core, adapter and depth is replaced. Of what fits the
deepest comes first, then what has the most parameters in adapters. Every row ends with the options to paste into
``model.backbone``.

- GFLOPs are multiply-adds of one image in inference over 1e9, half of the floating-point operations, as the model zoos
  and get_flops.py count them: of the whole model, or with ``--backbone`` of the backbone alone. The heads of a detector
  run on the proposals of an untrained one.
- Activations are what one image's forward pass in training keeps for the backward pass, in fp32, as get_flops.py
  ``--memory`` counts them; attention may keep more on a CPU than on a GPU, and ``--device`` counts. With checkpointing:
  what is kept then, the inputs of all positions among it, and what the largest position adds while it is recomputed.
- Memory is 16 bytes for every trained parameter (itself, its gradient, AdamW's two moments), 4 for every frozen one,
  and ``--batch-size`` times the activations. Temporary buffers and what libraries take come on top. A net that only
  fits with checkpointing has ``with_cp=True`` among its options.
- Latency is the median pass of one image in inference, of a detector without the last filtering of boxes, measured on
  this machine for the rows that are shown. For all others it is the sum of parts that were timed one by one.

    python tools/analysis_tools/plan_expansion.py configs/scalenet_deit_in1k.py --params 30M --gflops 10 --memory 8G \\
        --batch-size 64 --latency 80ms --plot plan.png
"""
import argparse
from pathlib import Path

import torch
from mmengine.config import DictAction
from mmengine.logging import MMLogger
from plan_budgets import UNITS, parse_budget
from plan_plot import draw
from plan_report import head, terminal, write_json, write_markdown
from plan_search import Search

from mmscalenet.engine import UsageError, one_line_errors, read_config


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config')
    for name, (_, example) in UNITS.items():
        parser.add_argument(f'--{name}', help=f'budget: {example}')
    parser.add_argument('--shape', nargs='+', type=int, help='height and width of an image, or one number for both; '
                        'default: the crops of a segmentor, else what the test pipeline gives')
    parser.add_argument('--backbone', action='store_true', help='the backbone alone')
    parser.add_argument('--max-scale', type=float, default=3, help='largest scale; default: %(default)s')
    parser.add_argument('--batch-size', type=int, default=1, help='images in a training step; default: %(default)s')
    parser.add_argument('--top', type=int, default=20, help='rows to show; default: %(default)s')
    parser.add_argument('--no-latency', action='store_true', help='time nothing')
    parser.add_argument('--runs', type=int, default=5, help='timed passes of each net; default: %(default)s')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--threads', type=int, help='CPU threads; default: what torch takes')
    parser.add_argument('--out', metavar='FILE.md', help='markdown file to write, with the command that made it')
    parser.add_argument('--json', metavar='FILE.json', help='all figures of all nets')
    parser.add_argument('--plot', metavar='FILE.png', help='picture of cost over depth')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='key=value settings for the config')
    return parser.parse_args()


def check(args: argparse.Namespace) -> dict[str, float]:
    """The budgets.

    Raises:
        UsageError: If an argument is not allowed.
    """
    limits = {name: parse_budget(name, getattr(args, name)) for name in UNITS if getattr(args, name) is not None}
    if not limits:
        raise UsageError(f'no budget: give at least one of {", ".join(f"--{name}" for name in UNITS)}.')
    if args.no_latency and args.latency:
        raise UsageError('--latency cannot be kept to with --no-latency: leave one of them out.')
    if args.shape and (len(args.shape) > 2 or min(args.shape) < 1):
        raise UsageError(f'--shape {args.shape} is not allowed: give height and width, or one number for both.')
    for name in ('max_scale', 'batch_size', 'top', 'runs', 'threads'):
        value = getattr(args, name)
        if value is not None and not 1 <= value < float('inf'):
            raise UsageError(f'--{name.replace("_", "-")} {value} is not allowed: give a number from 1 on.')
    for name, ending in (('out', '.md'), ('json', '.json'), ('plot', '.png')):
        path = getattr(args, name)
        if path and Path(path).suffix != ending:
            raise UsageError(f'--{name} "{path}": the name must end in {ending}.')
    try:
        torch.empty(0, device=args.device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f'--device {args.device} cannot be used: {error}') from None
    return limits


@one_line_errors
def main() -> None:
    args = parse_args()
    limits = check(args)
    MMLogger.get_instance('plan_expansion', log_level='ERROR')
    if args.threads:
        torch.set_num_threads(args.threads)
    search = Search(read_config(args.config, args.cfg_options), args, limits)
    rows = search.rows()
    if not args.no_latency:
        rows = search.measure_first(rows)
    text = head(rows, search.shape, args)
    print('\n'.join(text), terminal(rows, args), sep='\n\n')
    if args.json:
        write_json(rows, search.shape, args)
    if args.plot:
        draw(rows, text[0], args)
    if args.out:
        write_markdown(text, rows, args)


if __name__ == '__main__':
    main()
