"""Write a grown model as one of its library alone: a config and a checkpoint that every stock tool takes.

The grown DeiT or Swin becomes the library's own class, as deep as the positions that run and with wider FFNs, into
which the adapters are folded. Written is what computes the same; what no plain class computes is refused.

    python tools/model_converters/to_plain.py CONFIG CHECKPOINT --depth 18 --out DIR
"""
import argparse
import copy
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config, DictAction
from mmengine.logging import MMLogger
from mmengine.registry import MODELS
from torch import nn

from mmscalenet.apis import enter_scope, load_model
from mmscalenet.checkpoints import CheckpointError
from mmscalenet.deployment import Computed, difference, random_images, run
from mmscalenet.deployment.plain_backbone import make_plain, plain_state
from mmscalenet.deployment.plain_config import without_mmscalenet
from mmscalenet.engine import (
    UsageError,
    add_depth_argument,
    check_checkpoint,
    one_line_errors,
    read_config,
    use_depth,
    whole_folder,
)
from mmscalenet.engine.depth import expanded_backbones
from mmscalenet.engine.grown_config import as_written
from mmscalenet.models.backbones.scalenet import ScaleNet

sys.path.append(str(Path(__file__).resolve().parents[1] / 'analysis_tools'))

#: The greatest difference of the plain model, see ``difference``.
TOLERANCE = 1e-5


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file of the grown model')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--out', required=True, type=Path, metavar='DIR', help='folder to write, not there yet')
    add_depth_argument(parser)
    parser.add_argument('--shape', nargs='+', type=int, metavar='N', help='height and width of the images on which '
                        'both models are compared; default: img_size of the backbone, or 224')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='key=value settings that override the '
                        'config\'s')
    return parser.parse_args()


def backbones(model: nn.Module, cfg: Config) -> Iterator[tuple[ScaleNet, dict]]:
    """The grown backbones of a model, and their parts of the config.

    Raises:
        UsageError: If there is none, or none of its name in the config.
    """
    found = expanded_backbones(model)
    if not found:
        raise UsageError('the model has no grown backbone: it is plain already.')
    for name, backbone in found.items():
        part = cfg.model
        for key in name.split('.'):
            part = part.get(key) if isinstance(part, dict) else None
        if not isinstance(part, dict) or not isinstance(backbone, ScaleNet):
            raise UsageError(f'the grown backbone {name} of the model stands nowhere in the config under that name.')
        yield backbone, part


def plain_meta(content: dict) -> dict:
    """What stock tools read in a checkpoint beside the weights: the names and colours of the classes."""
    meta = (content.get('meta') or {}).get('dataset_meta') or {}
    return dict(dataset_meta={key: value for key, value in meta.items() if _is_data(value)})


def _is_data(value: object) -> bool:
    """Whether a value needs no class of ours, or anybody's, to be read."""
    if isinstance(value, (list, tuple)):
        return all(map(_is_data, value))
    if isinstance(value, dict):
        return _is_data([*value, *value.values()])
    return value is None or isinstance(value, (str, int, float, np.ndarray))


def convert(args: argparse.Namespace, cfg: Config, name: str, folder: Path) -> tuple[float, list[str]]:
    """Write config and checkpoint into a folder, and compare; the difference, and remarks."""
    from get_flops import default_shape
    model, content = load_model(cfg, args.checkpoint)
    computed = Computed(model)
    shape = args.shape or default_shape(cfg)
    images = random_images(cfg.model.backbone.get('in_channels', 3), [(2, shape[0], shape[-1])])
    expected = run(computed, images)[0]
    remarks = []
    for backbone, part in backbones(model, cfg):
        if 'layers' in dict(backbone.named_children()) and part.get('frozen_stages', -1) > 0:
            remarks.append('frozen_stages, which counted blocks of the base, was left out.')
        plain = make_plain(backbone, part, enter_scope(cfg))
        part.clear()
        part.update(plain)
    remarks += without_mmscalenet(cfg)
    cfg.load_from = f'{{{{ fileDirname }}}}/{name}.pth'
    command = shlex.join(['tools/model_converters/to_plain.py', args.config, args.checkpoint])
    text = cfg.pretty_text.replace(repr(cfg.load_from), as_written(cfg.load_from))
    (folder / f'{name}.py').write_text(f'# Written by {command}\n{text}')

    written = read_config(str(folder / f'{name}.py'))
    options = copy.deepcopy(written.model)
    if 'data_preprocessor' in written:
        options.setdefault('data_preprocessor', written.data_preprocessor)
    twin = MODELS.build(options).eval()
    state = plain_state(model.state_dict(), twin)
    twin.load_state_dict(state)
    worst = max(difference(one, other) for one, other in zip(run(Computed(twin), images)[0], expected, strict=True))
    if worst > TOLERANCE:
        raise UsageError(f'nothing is written: the plain model differs by {worst:.1e}, and {TOLERANCE:.0e} is allowed.')
    torch.save(dict(state_dict=state, meta=plain_meta(content)), folder / f'{name}.pth')
    return worst, remarks


@one_line_errors
def main() -> None:
    args = parse_args()
    check_checkpoint(args.checkpoint, 'checkpoint')
    if args.shape and (len(args.shape) > 2 or min(args.shape) < 1):
        raise UsageError(f'--shape {args.shape} is not allowed: give height and width, or one number for both.')
    if args.out.exists():
        raise UsageError(f'--out "{args.out}" exists already; name another folder, or remove it.')
    cfg = read_config(args.config, args.cfg_options)
    use_depth(cfg, args.depth)
    MMLogger.get_instance('to_plain', log_level='WARNING')
    name = f'{Path(args.config).stem}_plain'
    try:
        with whole_folder(args.out) as folder:
            worst, remarks = convert(args, cfg, name, folder)
    except (CheckpointError, ValueError, TypeError, RuntimeError, IndexError) as error:
        raise UsageError(str(error)) from error
    print(f'{args.out / name}.py and .pth: backbone {cfg.model.backbone.type}, without mmscalenet')
    print(f'greatest difference from the grown model: {worst:.1e}, {TOLERANCE:.0e} allowed')
    for remark in remarks:
        print(f'note: {remark}')


if __name__ == '__main__':
    main()
