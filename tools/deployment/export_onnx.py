"""Write a trained model as an ONNX file, compared with PyTorch in ONNX Runtime before it is left on disk.

A classifier and a segmentor are written whole, of a detector backbone and neck, and with ``--backbone`` the backbone of
any model. Grown backbones are unrolled first, with adapters, gates and LoRA folded into plain blocks.

    python tools/deployment/export_onnx.py CONFIG CHECKPOINT --shape 224 224 --depth 18
    python tools/deployment/export_onnx.py CONFIG CHECKPOINT --dynamic --out any_size.onnx
"""
import argparse
import os
import sys
from pathlib import Path

from mmengine.config import Config, DictAction
from mmengine.logging import MMLogger

from mmscalenet.apis import load_model
from mmscalenet.checkpoints import CheckpointError
from mmscalenet.deployment import Computed, write_onnx
from mmscalenet.deployment.onnx_file import OPSET, TOLERANCE, require_onnx
from mmscalenet.engine import (
    UsageError,
    add_depth_argument,
    check_checkpoint,
    one_line_errors,
    read_config,
    use_depth,
)
from mmscalenet.engine.depth import expanded_backbones
from mmscalenet.tables import align

sys.path.append(str(Path(__file__).resolve().parents[1] / 'analysis_tools'))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--out', type=Path, metavar='FILE.onnx', help='file to write, not there yet; default: the name '
                        'of the checkpoint in the current folder')
    parser.add_argument('--shape', nargs='+', type=int, metavar='N', help='height and width of the images, or one '
                        'number for both; default: img_size of the backbone, or 224')
    parser.add_argument('--batch-size', type=int, default=1, help='images in a batch (default: %(default)s)')
    parser.add_argument('--dynamic', action='store_true', help='any batch, and any height and width that the patch '
                        'divides; not for attention within windows (Swin)')
    add_depth_argument(parser)
    parser.add_argument('--backbone', action='store_true', help='the backbone alone')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='key=value settings that override the '
                        'config\'s')
    return parser.parse_args()


def check(args: argparse.Namespace) -> Path:
    """The file to write.

    Raises:
        UsageError: If an argument is not allowed.
    """
    if args.shape and (len(args.shape) > 2 or min(args.shape) < 1):
        raise UsageError(f'--shape {args.shape} is not allowed: give height and width, or one number for both.')
    if args.batch_size < 1 or (args.dynamic and args.batch_size > 1):
        raise UsageError(f'--batch-size {args.batch_size} is not allowed: give a number from 1 on, and none with '
                         '--dynamic, which takes any.')
    check_checkpoint(args.checkpoint, 'checkpoint')
    out = args.out or Path(os.path.basename(args.checkpoint)).with_suffix('.onnx')
    if out.exists():
        raise UsageError(f'"{out}" exists already; remove it or name another file with --out.')
    return out


def normalisation(cfg: Config) -> str:
    """What the model's data preprocessor does to images before they are an input, in words."""
    options = cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    if options.get('mean') is None:
        return 'as the data_preprocessor of the config leaves it'
    order = 'RGB' if options.get('to_rgb') or options.get('bgr_to_rgb') else 'channels as they are read'
    mean, std = (', '.join(f'{value:g}' for value in options[key]) for key in ('mean', 'std'))
    return f'(pixels - mean) / std, {order}, mean {mean}, std {std}'


@one_line_errors
def main() -> None:
    args = parse_args()
    require_onnx()
    out = check(args)
    cfg = read_config(args.config, args.cfg_options)
    use_depth(cfg, args.depth)
    MMLogger.get_instance('export_onnx', log_level='WARNING')
    try:
        model, _ = load_model(cfg, args.checkpoint)
    except (CheckpointError, ValueError, TypeError) as error:
        raise UsageError(str(error)) from error
    from get_flops import default_shape
    computed = Computed(model, args.backbone)
    shape = args.shape or default_shape(cfg)
    depths = {name: backbone.active_depth for name, backbone in expanded_backbones(model).items()}
    written = write_onnx(computed, out, cfg.model.backbone.get('in_channels', 3), (shape[0], shape[-1]),
                         args.batch_size, args.dynamic)
    print(f'{out}: {computed.part}. {os.path.getsize(out) / 1e6:.1f} MB, opset {OPSET}')
    for name, depth in depths.items():
        print(f'{name} unrolled: {"+".join(map(str, depth))} positions')
    print(align([(role, name, kind, ' x '.join(map(str, size))) for role, values in (
        ('input', written.inputs), ('output', written.outputs)) for name, kind, size in values]))
    print(f'image: {normalisation(cfg)}')
    worst = max(written.differences.values())
    print(f'ONNX Runtime against PyTorch: greatest difference {worst:.1e}, {TOLERANCE:.0e} allowed, at '
          f'{", ".join(written.differences)}')


if __name__ == '__main__':
    main()
