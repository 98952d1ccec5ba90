"""Train the model of a config of mmpretrain, mmdet or mmseg."""
import argparse
import os
from pathlib import Path

from mmengine.config import Config
from mmengine.device import get_device

import mmscalenet  # noqa: F401  our names exist even where a config forgot custom_imports
from mmscalenet.engine import (
    UsageError,
    add_common_arguments,
    build_runner,
    check_checkpoint,
    check_folder,
    checkpoint_folder,
    end_processes,
    full_type,
    last_whole_checkpoint,
    load_config,
    name_endings,
    name_missing_files,
    one_line_errors,
    one_run,
    remove_temporary,
    require,
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('--resume', nargs='?', const='auto', help='go on from this checkpoint; alone or as "auto", '
                        'from the last whole one in the work directory, if there is one')
    parser.add_argument('--amp', action='store_true', help='mixed precision: on a GPU as the config says (float16 '
                        'unless optim_wrapper.dtype is set), on a CPU bfloat16')
    parser.add_argument('--auto-scale-lr', action='store_true', help='scale the learning rate with the batch size')
    parser.add_argument('--no-validate', action='store_true', help='do not evaluate during training')
    add_common_arguments(parser)
    return parser.parse_args()


def use_amp(cfg: Config) -> None:
    kind = full_type(cfg.optim_wrapper) or 'OptimWrapper'
    if kind.rpartition('.')[2] not in ('OptimWrapper', 'AmpOptimWrapper'):
        raise UsageError(f'--amp needs optim_wrapper.type "OptimWrapper" in the config, and it is "{kind}".')
    cfg.optim_wrapper.type = 'AmpOptimWrapper'
    cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')


def check_amp(cfg: Config) -> None:
    if full_type(cfg.optim_wrapper).endswith('AmpOptimWrapper') and cfg.get('default_scope') == 'mmdet' \
            and get_device() == 'cpu':
        raise UsageError('mixed precision of a detector needs a GPU: on a CPU it is bfloat16, which the ops of mmcv '
                         '(NMS, RoIAlign) do not take. Leave out --amp, or set optim_wrapper.type=OptimWrapper where '
                         'the config asks for it.')


def scale_lr(cfg: Config) -> None:
    if not (cfg.get('auto_scale_lr') or {}).get('base_batch_size'):
        raise UsageError('--auto-scale-lr needs the batch size that the learning rate was chosen for, and the config '
                         'does not say it. Add auto_scale_lr = dict(base_batch_size=N).')
    cfg.auto_scale_lr.enable = True


def checkpoint_hook(cfg: Config) -> dict | None:
    return (cfg.get('default_hooks') or {}).get('checkpoint')


def resume(cfg: Config, checkpoint: str) -> None:
    """Point the config at the checkpoint to go on from."""
    cfg.resume = True
    if checkpoint != 'auto':
        check_checkpoint(checkpoint, 'checkpoint')
        cfg.load_from = checkpoint
        return
    found, damaged = last_whole_checkpoint(cfg.work_dir, checkpoint_hook(cfg))
    if os.environ['LOCAL_RANK'] == '0':
        for path in damaged:
            print(f'warning: {path} is damaged and passed over', flush=True)
        print(f'resume: going on from {found}' if found else
              f'resume: no checkpoint in {cfg.work_dir} yet, starting at the beginning', flush=True)
    if found:
        cfg.load_from = found
    else:
        cfg.resume = False


@one_line_errors
def main() -> None:
    args = parse_args()
    cfg = load_config(args)
    require(cfg, 'model', 'train_dataloader', 'train_cfg', 'optim_wrapper')
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.amp:
        use_amp(cfg)
    check_amp(cfg)
    if args.auto_scale_lr:
        scale_lr(cfg)
    with one_run(cfg.work_dir, cfg.launcher), name_endings(cfg.work_dir, alone=cfg.launcher == 'none'), \
            name_missing_files(cfg):
        named = isinstance(cfg.get('resume'), str)  # which mmengine would take for a mere yes
        if args.resume or named or (cfg.get('resume') and not cfg.get('load_from')):
            resume(cfg, args.resume or (cfg.resume if named else 'auto'))
        if os.environ['LOCAL_RANK'] == '0':
            place = (checkpoint_hook(cfg) or {}).get('out_dir') or ''
            if place and '://' not in place:
                check_folder(place, 'folder of checkpoints',
                             '--cfg-options default_hooks.checkpoint.out_dir=PATH')
            for folder in {Path(cfg.work_dir), checkpoint_folder(cfg.work_dir, checkpoint_hook(cfg))}:
                remove_temporary(folder)
        build_runner(cfg).train()


if __name__ == '__main__':
    main()
    end_processes()
