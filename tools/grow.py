"""Grow a trained classifier, detector or segmentor: a short config and its checkpoint, in a folder of their own.

    python tools/grow.py work_dirs/mask-rcnn_swin-t work_dirs/mask-rcnn_swin-t/epoch_12.pth --scale 2 --out grown
    python tools/grow.py CONFIG CHECKPOINT --scale 16/12 --options layer_map=middle_cycle core=4,7 gate=1/N --out DIR

The config inherits from the one given, or from the one that a work directory holds, and changes the backbone alone, and
with ``gate`` or ``inject`` the rate of their factors; the checkpoint beside it holds the whole model, heads too, and
what the run's optimizer knew of it. Both can lie anywhere. Nothing is overwritten. With ``--same-flops`` the grown run
is a fair opponent of the base trained on: what is left of the run becomes as many steps as cost the same.
"""
import argparse
import copy
import os
import shlex
import sys
from fractions import Fraction
from pathlib import Path

import torch
from mmengine.config import Config, DictAction
from mmengine.logging import MMLogger

import mmscalenet
from mmscalenet.checkpoints import CheckpointError
from mmscalenet.engine import ResumeError, UsageError, check_checkpoint, one_line_errors, read_config, whole_folder
from mmscalenet.engine.checkpoint_reading import read_run
from mmscalenet.engine.cli import command_of
from mmscalenet.engine.growing import grow_checkpoint, is_run
from mmscalenet.engine.grown_config import factor_rates, grown_settings, read_base, scalenet_options, write_grown
from mmscalenet.engine.literals import read_literal, read_settings
from mmscalenet.engine.same_flops import SameFlops
from mmscalenet.models.backbones.scalenet import EXPAND_ARGUMENTS
from mmscalenet.tables import align

ROOT = Path(__file__).resolve().parent
sys.path.append(str(ROOT / 'analysis_tools'))


def find_config(path: str) -> str:
    """The config, or the newest one in a work directory."""
    if not os.path.isdir(path):
        return path
    # one in Python before others: a JSON file may hold results
    found = sorted((file for file in Path(path).iterdir() if file.suffix in ('.py', '.json', '.yaml', '.yml')),
                   key=lambda file: (file.suffix == '.py', os.path.getmtime(file)))
    if not found:
        raise UsageError(f'there is no config in "{path}". Give the config itself, or a folder that tools/train.py '
                         'wrote.')
    return str(found[-1])


def number(text: str) -> float:
    """A scale: ``2``, ``1.5``, ``16/12``."""
    try:
        value = Fraction(text)
    except (ValueError, ZeroDivisionError) as error:
        raise argparse.ArgumentTypeError(f'{text} is not allowed; give a number from 1 on, e.g. 2, 1.5 or 16/12') \
            from error
    return int(value) if value.denominator == 1 else float(value)


def setting(text: str) -> dict:
    """What one of --options sets: as on other command lines, or several as they are written in a config."""
    try:
        return read_settings(text)
    except (SyntaxError, ValueError):
        key, equals, value = text.partition('=')
    if not equals:
        raise argparse.ArgumentTypeError(f'{text} is not allowed; give key=value')
    try:
        return {key: read_literal(value)}
    except (SyntaxError, ValueError):
        pass
    try:
        return {key: DictAction._parse_iterable(value)}  # names, and lists of them, without quotes
    except (AssertionError, RecursionError):
        raise argparse.ArgumentTypeError(f'{text} cannot be read: are there brackets that do not close?') from None


def expand_options(args: argparse.Namespace, base: Config) -> dict:
    """The options of the expansion by name.

    Raises:
        UsageError: If one of --options is none, or the scale is given twice.
    """
    given = Config()
    for one in args.options or []:
        given.merge_from_dict(one)  # adapter.type=LoRA is a part of adapter
    options = given.to_dict()
    if args.scale and 'scale' in options:
        raise UsageError('scale is given twice, by --scale and among --options; leave out one of them.')
    scale = args.scale or [2]
    options = dict(scale=scale[0] if len(scale) == 1 else scale) | options
    for name, value in scalenet_options(base).items():  # which plan_expansion.py names beside them
        if options.get(name) == value:
            del options[name]
    if isinstance(options.get('adapter'), dict):
        options['adapter'].setdefault('type', 'ParallelAdapter')
    wrong = [name for name in options if name not in EXPAND_ARGUMENTS]
    if wrong:
        raise UsageError(f'--options {wrong[0]} is no option of a ScaleNet; allowed are {", ".join(EXPAND_ARGUMENTS)}.')
    return options


def figures(cfg: Config, shape: list[int] | None) -> list[str]:
    """Parameters and multiply-adds of the model, as cells."""
    from get_flops import measure
    row = measure(cfg, shape, backbone=False, memory=False)
    return [row['parameters (M)'], row['multiply-adds (G)'], row['image']]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config of the base, e.g. mmdet::swin/NAME.py, or the work directory of its run')
    parser.add_argument('checkpoint', help='what its training left')
    parser.add_argument('--scale', nargs='+', type=number, help='positions per block, for Swin also one a '
                        'stage; default: 2')
    parser.add_argument('--options', nargs='+', type=setting, metavar='KEY=VALUE', help='more options of the '
                        'expansion, e.g. layer_map=interleaved gate=0. adapter.ratio=5/24, or in quotes what '
                        'plan_expansion.py prints')
    parser.add_argument('--out', required=True, type=Path, metavar='DIR', help='folder to write, not there yet')
    parser.add_argument('--name', help='name of config and checkpoint; default: that of the config and "_grown"')
    parser.add_argument('--shape', nargs='+', type=int, help='height and width at which multiply-adds are counted; '
                        'default: the crops of a segmentor, else what the test pipeline gives')
    parser.add_argument('--same-flops', action='store_true', help='end earlier, so that the rest of the run, gone on '
                        'with by --resume, takes the FLOPs that the rest of the base\'s run takes')
    parser.add_argument('--trusted', action='store_true', help='checkpoint and grown config may run code: only if you '
                        'trust the origin of the first')
    return parser.parse_args()


def same_flops(args: argparse.Namespace, base: Config, settings: dict) -> dict:
    """What the grown config says of length and schedule, for the rest of the run to cost what the base's would."""
    from get_flops import build, image_shape
    from training_flops import training_multiply_adds
    cfg = copy.deepcopy(base)
    cfg.merge_from_dict(copy.deepcopy(settings))
    run = read_run(args.checkpoint, args.trusted)
    if not is_run(run) or base.get('optim_wrapper') is None:
        raise UsageError('--same-flops is for a run that goes on, and the checkpoint holds weights alone.')
    size = args.shape or image_shape(base)
    image = (base.model.backbone.get('in_channels', 3), size[0], size[-1])
    cost, own = (training_multiply_adds(build(one), one, image, 2) for one in (base, cfg))
    rest = SameFlops(base, run, own / cost)
    print(f'A step of the grown net costs {own / cost:.3f} times one of the base. From iteration {rest.now} on it runs '
          f'to {rest.end}, the base to {rest.total}: {rest.spent:.3f} of the FLOPs of the base\'s rest.\n')
    for name in rest.unmoved():
        print(f'note: {name} lies behind iteration {rest.now}, and is kept as it is.', file=sys.stderr)
    for name in rest.smoothed():
        print(f'note: {name} changes the rate once an epoch in the base\'s run, and in every iteration of the grown '
              'one. With convert_to_iter_based=True it does so in both.', file=sys.stderr)
    return rest.settings


def write(args: argparse.Namespace, source: str, base: Config, options: dict, name: str) -> tuple[Config, dict]:
    """Write the folder, which gets its name when all is in it; the config and what its checkpoint holds."""
    with whole_folder(args.out) as folder:
        config = folder / f'{name}.py'
        settings = grown_settings(base, options)
        settings |= same_flops(args, base, settings) if args.same_flops else {}
        settings |= dict(load_from=f'{{{{ fileDirname }}}}/{name}.pth')
        settings |= dict(trusted=True) if args.trusted else {}
        write_grown(config, source if '::' in source else os.path.relpath(source, folder), settings)
        cfg = read_config(str(config))
        cfg.load_from = str(args.out.resolve() / f'{name}.pth')  # where it will be
        grown = grow_checkpoint(args.checkpoint, cfg) if args.same_flops else grow(args.checkpoint, cfg)
        torch.save(grown, folder / f'{name}.pth')
    return cfg, grown


def grow(checkpoint: str, cfg: Config) -> dict:
    """What the grown checkpoint holds: all of a run that can go on, else its weights."""
    try:
        return grow_checkpoint(checkpoint, cfg)
    except ResumeError as error:
        print(f'warning: only the weights are grown: {error}', file=sys.stderr)
        return grow_checkpoint(checkpoint, cfg, weights_only=True)


def name_own_rates(base: Config, options: dict, weights: dict) -> None:
    """Say so where gates and the factors of ``inject`` have no rate of their own, and how the config gives them one."""
    keys = [key for key in weights if key.rpartition('.')[2] in ('gate', 'inject')]
    if keys and factor_rates(base, options) is None:
        print('note: gates and the factors of inject keep the rate that the optimizer of the config gives them, at '
              'which they hardly open. Where it has custom_keys, give each a key of its own, as the longest counts: '
              f"'{keys[0]}': dict(lr_mult=10.), and so on for {len(keys)}.", file=sys.stderr)


def has_ended(cfg: Config, meta: dict) -> bool:
    """Whether the run has come to the end that the config gives it."""
    train = cfg.get('train_cfg') or {}
    return any(meta[name] >= (train.get(f'max_{name}s') or float('inf')) for name in ('epoch', 'iter'))


@one_line_errors
def main() -> None:
    args = parse_args()
    check_checkpoint(args.checkpoint, 'checkpoint')
    source = find_config(args.config)
    base = read_base(source)
    if args.out.exists():
        raise UsageError(f'--out "{args.out}" exists already; name another folder, or remove it.')
    name = args.name or f'{Path(source).stem}_grown'
    if Path(name).name != name:
        raise UsageError(f'--name "{name}" is not allowed: it is the name of two files in the folder.')
    MMLogger.get_instance('grow', log_level='WARNING')
    try:
        options = expand_options(args, base)
        cfg, grown = write(args, source, base, options, name)
        from get_flops import build
        print(mmscalenet.layer_table(build(cfg, backbone=True)))
        rows = [('', 'parameters (M)', 'multiply-adds (G)', 'image'), ('before', *figures(base, args.shape)),
                ('after', *figures(cfg, args.shape))]
    except (CheckpointError, ValueError, TypeError, RuntimeError) as error:
        raise UsageError(str(error)) from error
    print(f'\n{align(rows)}\n')
    config, checkpoint = args.out / f'{name}.py', args.out / f'{name}.pth'
    train = command_of(ROOT / 'train.py')
    print(f'Written: {config} and {checkpoint}. To train on from these weights:\n'
          f'    {train} {shlex.quote(str(config))}')
    if 'optimizer' in grown:
        print('To go on inside the same run, with the state of its optimizer, at its iteration of the schedule:\n'
              f'    {train} {shlex.quote(str(config))} --resume {shlex.quote(str(checkpoint))}')
        if has_ended(cfg, grown['meta']):
            print('which is at its end: the config first needs a longer train_cfg, and a schedule for it.')
    else:
        print('The checkpoint holds weights alone: the run that it is of cannot be gone on with.')
    if Path('work_dirs', name).exists():
        print(f'note: work_dirs/{name} is there already, and a new run would overwrite the checkpoints in it: give '
              'train.py a --work-dir, or this command another --name.', file=sys.stderr)
    name_own_rates(base, options, grown['state_dict'])


if __name__ == '__main__':
    main()
