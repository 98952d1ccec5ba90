"""Grow the model of a run: from its config and a checkpoint, a config and a checkpoint of the same model, deeper.

    python tools/grow.py work_dirs/mask_rcnn work_dirs/mask_rcnn/epoch_12.pth --scale 2 --gate 0 --out grown
    python tools/grow.py my_config.py epoch_300.pth --scale 1.5 --layer-map interleaved --out grown

Both are written into the folder --out, under the name of the config with "_grown" behind it. The config inherits from
the given one and changes nothing but the backbone, which has to be a ViT, DeiT or Swin. All other options of the
backbone (see README.md) go behind --options. With --gate 0 the grown model starts as the base exactly; its gates want a
larger learning rate.
"""
import argparse
import ast
import os
import shlex
import sys
from pathlib import Path

import torch
from mmengine.config import Config, DictAction
from mmengine.logging import MMLogger

import mmscalenet
from mmscalenet.engine import (
    ResumeError,
    UsageError,
    check_checkpoint,
    grow_checkpoint,
    name_missing_files,
    one_line_errors,
    whole_file,
)
from mmscalenet.engine.grown_config import (
    base_seen_from,
    find_config,
    grown_settings,
    grown_text,
    read_base,
    read_grown,
)

TOOLS = Path(__file__).resolve().parent
sys.path.append(str(TOOLS / 'analysis_tools'))
from get_flops import build, measure, table  # noqa: E402


def value(text: str) -> object:
    """A number or a list as such, all else as it stands."""
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', metavar='WORK_DIR_OR_CONFIG', help='config of the base, e.g. mmdet::swin/....py, or '
                        'the work directory of its run, of whose configs the newest is taken')
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help='checkpoint of the base, path or URL')
    parser.add_argument('--out', required=True, metavar='DIR', help='folder to write into')
    parser.add_argument('--scale', nargs='+', type=value, default=[2], help='positions per block; for a Swin also one '
                        'number per stage (default: 2)')
    parser.add_argument('--layer-map', type=value, help='which block runs where: a name, or a list as "[0,1,0,1]"')
    parser.add_argument('--gate', type=value, help='start value of the factor on added positions')
    parser.add_argument('--adapter', help='what each position owns, e.g. ParallelAdapter or LoRA, or "none"')
    parser.add_argument('--options', nargs='+', action=DictAction, default={}, metavar='KEY=VALUE',
                        help='further options of the backbone, e.g. unshare=norms adapter.ratio=0.25')
    parser.add_argument('--shape', nargs='+', type=int, help='height and width of the image that is counted '
                        'for; default: img_size of the backbone, or 224')
    parser.add_argument('--trusted', action='store_true', help='the checkpoint may run code: only if you trust its '
                        'origin')
    return parser.parse_args()


def options_of(args: argparse.Namespace) -> dict:
    """The backbone's options that the arguments give."""
    result = dict(scale=args.scale[0] if len(args.scale) == 1 else args.scale)
    for name in ('layer_map', 'gate'):
        if getattr(args, name) is not None:
            result[name] = getattr(args, name)
    if args.adapter is not None:
        result['adapter'] = None if args.adapter.lower() == 'none' else dict(type=args.adapter)
    return result | args.options


def grow(checkpoint: str, cfg: Config) -> tuple[dict, str | None]:
    """The grown checkpoint, and why the run cannot go on from it, if it cannot."""
    try:
        grown = grow_checkpoint(checkpoint, cfg)
    except ResumeError as error:
        return grow_checkpoint(checkpoint, cfg, weights_only=True), str(error)
    if 'optimizer' not in grown:
        return grown, f'{checkpoint} holds no optimizer'
    train, meta = cfg.get('train_cfg') or {}, grown['meta']
    if meta['epoch'] >= train.get('max_epochs', float('inf')) or meta['iter'] >= train.get('max_iters', float('inf')):
        return grown, 'the run is at its end; give the new config a larger train_cfg and a schedule for it'
    return grown, None


@one_line_errors
def main() -> None:
    args = parse_args()
    if args.shape and (len(args.shape) > 2 or min(args.shape) < 1):
        raise UsageError(f'--shape {args.shape} is not allowed: give height and width, or one number for both.')
    MMLogger.get_instance('grow', log_level='WARNING')
    base = find_config(args.config)
    check_checkpoint(args.checkpoint, 'checkpoint')
    name = f'{Path(base).stem}_grown'
    config, weights = (Path(args.out) / f'{name}.{ending}' for ending in ('py', 'pth'))
    for path in (config, weights):
        if path.exists():
            raise UsageError(f'"{path}" exists already. Name another folder with --out.')
    if os.path.exists(args.out) and not os.path.isdir(args.out):
        raise UsageError(f'--out "{args.out}" is a file. Name a folder.')

    cfg = read_base(base)
    settings = grown_settings(cfg, options_of(args), name)
    grown_cfg = read_grown(settings, base)
    if args.trusted:
        grown_cfg.trusted = True
    with name_missing_files(grown_cfg):
        print(mmscalenet.layer_table(build(grown_cfg, backbone=True)))
        rows = [{'model': title, **measure(part, args.shape, backbone=False, memory=False)}
                for title, part in (('base', cfg), ('grown', grown_cfg))]
        print(f'\n{table(rows)}\n', flush=True)
        grown, obstacle = grow(args.checkpoint, grown_cfg)
    text = grown_text(settings, base_seen_from(args.out, base))
    with whole_file(config) as config_file, whole_file(weights) as weights_file:  # named when both are whole
        torch.save(grown, weights_file)
        config_file.write_text(text)

    train = ['python', os.path.relpath(TOOLS / 'train.py'), str(config)]
    print(f'{config} and {weights} are written. Train on:\n    {shlex.join(train)}')
    if obstacle is None:
        print(f'or inside the same run, from its iteration {grown["meta"]["iter"]} on and with the state of its '
              f'optimizer, of {len(grown["optimizer"]["state"])} parameters:\n    '
              f'{shlex.join([*train, "--resume", str(weights)])}')
    else:
        print(f'The same run cannot go on with --resume: {obstacle}.')


if __name__ == '__main__':
    main()
