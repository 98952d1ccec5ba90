"""What of grown models can be exported to ONNX and written as a plain class of its library, as a table.

Small backbones of each parent with each kind of option, all weights noise, and the models of shipped configs with noise
in what positions own. A cell is the greatest difference from the grown model, or the number of the reason why there is
none. Nothing is left on disk but the table.

    python tools/deployment/check_deployment.py --out docs/results/deployment.md
"""
import argparse
import copy
import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, init_default_scope
from torch import nn

import mmscalenet
from mmscalenet.deployment import Computed, difference, random_images, run, write_onnx
from mmscalenet.deployment.plain_backbone import make_plain, plain_state
from mmscalenet.engine import UsageError, one_line_errors, read_config, whole_file

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / 'tools/analysis_tools'))

VIT = dict(arch=dict(embed_dims=24, num_layers=4, num_heads=2, feedforward_channels=96), img_size=32, patch_size=8)
SWIN = dict(embed_dims=12, depths=[2, 2, 4, 2], num_heads=[1, 2, 2, 4], window_size=4)
PARENTS = {
    'mmpretrain.VisionTransformer': VIT,
    'mmpretrain.DistilledVisionTransformer': VIT,
    'mmpretrain.SwinTransformer': dict(arch={key: SWIN[key] for key in ('embed_dims', 'depths', 'num_heads')},
                                       window_size=4, pad_small_map=True),
    'mmdet.SwinTransformer': SWIN,
    'mmseg.SwinTransformer': SWIN,
    'mmseg.VisionTransformer': dict(embed_dims=24, num_layers=4, num_heads=2, img_size=32, patch_size=8),
}
OPTIONS = {
    'defaults': dict(),
    "layer_map='interleaved', scale=3": dict(layer_map='interleaved', scale=3),
    "layer_map='middle_cycle', gate='1/N'": dict(layer_map='middle_cycle', gate='1/N'),
    'inject=True': dict(layer_map='middle_cycle', inject=True),
    "gate=0.5, unshare='norms'": dict(gate=0.5, unshare='norms'),
    "adapter=dict(type='LoRA')": dict(adapter=dict(type='LoRA')),
    'an adapter with ReLU': dict(adapter=dict(type='ParallelAdapter', act_cfg=dict(type='ReLU'))),
    'adapter=None, share=False': dict(adapter=None, share=False),
}
CONFIGS = ('scalenet_deit_in1k', 'scalenet_swin_in1k', 'upernet_scalenet_deit', 'upernet_scalenet_swin',
           'mask_rcnn_scalenet_deit', 'mask_rcnn_scalenet_swin')


class Alone(nn.Module):
    """A backbone as the model that it is the whole of."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone


def cases() -> Iterator[tuple[str, str, Callable[[], nn.Module], dict, str, tuple[int, int]]]:
    """Name, options, what builds the model, the config of its backbone, its library and the size of images."""
    for parent, arguments in PARENTS.items():
        kind = 'ScaleNetSwin' if 'Swin' in parent else 'ScaleNetDeiT'
        for name, options in OPTIONS.items():
            config = dict(type=f'mmscalenet.{kind}', base=parent, **arguments, **options)
            yield parent, name, lambda config=config: small(config), config, parent.split('.')[0], (64, 64)
    for name in CONFIGS:
        cfg = read_config(str(ROOT / f'configs/{name}.py'))
        size = (224, 224) if 'in1k' in name else (128, 160)
        yield f'configs/{name}.py', '', lambda cfg=cfg: whole(cfg), cfg.model.backbone, cfg.default_scope, size


def small(config: dict) -> nn.Module:
    config = copy.deepcopy(config)
    return fill(Alone(getattr(mmscalenet, config.pop('type').split('.')[1])(**config)), '', 0.2)


def whole(cfg) -> nn.Module:
    from get_flops import build
    return fill(build(cfg), '.positions.', 0.05)


@torch.no_grad()
def fill(model: nn.Module, part: str, size: float) -> nn.Module:
    """Put noise into the parameters whose names hold ``part``."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if part in name:
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * size)
    return model.eval()


def check_plain(model: nn.Module, config: dict, library: str, size: tuple[int, int]) -> float:
    """The difference of the plain backbone from the grown one.

    Raises:
        UsageError: If there is no such one.
    """
    images = random_images(3, [(2, *size)])
    expected = run(Computed(model, backbone=True), images)[0]
    plain = make_plain(model.backbone, config, library)
    init_default_scope(library)
    twin = Alone(MODELS.build(plain))
    twin.eval()
    twin.backbone.load_state_dict(plain_state(model.backbone.state_dict(), twin.backbone))
    return max(difference(one, other) for one, other in zip(
        run(Computed(twin, backbone=True), images)[0], expected, strict=True))


def check_onnx(model: nn.Module, size: tuple[int, int], dynamic: bool) -> float:
    """The greatest difference of a file from the model.

    Raises:
        UsageError: If there is no such file.
    """
    with tempfile.TemporaryDirectory() as folder:
        return max(write_onnx(Computed(model), Path(folder) / 'x.onnx', 3, size, dynamic=dynamic).differences.values())


def row(build: Callable[[], nn.Module], config: dict, library: str, size: tuple[int, int],
        reasons: list[str]) -> list[str]:
    """The three cells of a model; ``reasons`` takes those that are not there yet."""
    model, cells = build(), []
    for check in (lambda own: check_onnx(own, size, False), lambda own: check_onnx(own, size, True),
                  lambda own: check_plain(own, config, library, size)):
        try:
            worst = check(copy.deepcopy(model))
            cells.append(f'{worst:.0e}' if worst else '0')
        except UsageError as error:
            reason = str(error).replace('stages.0.blocks', 'layers').split(' Export it')[0].split(' Leave')[0]
            if reason not in reasons:
                reasons.append(reason)
            cells.append(f'no ({reasons.index(reason) + 1})')
    return cells


@one_line_errors
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--only', help='only rows whose name holds this')
    parser.add_argument('--out', help='markdown file to write, with the command that made it')
    args = parser.parse_args()
    MMLogger.get_instance('check_deployment', log_level='ERROR')
    reasons: list[str] = []
    head = ['model', 'options', 'ONNX, one size', 'ONNX, any batch and size', 'plain class']
    lines = [head, ['---'] * 2 + ['---:'] * 3]
    for name, options, build, config, library, size in cases():
        if not args.only or args.only in f'{name} {options}':
            lines.append([name, options, *row(build, config, library, size, reasons)])
            print(*lines[-1], sep='  ', flush=True)
    table = '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)
    notes = '\n'.join(f'{number}. {reason}' for number, reason in enumerate(reasons, 1))
    if args.out:
        command = shlex.join(['python', os.path.relpath(sys.argv[0]), *sys.argv[1:]])
        with whole_file(args.out) as path:
            path.write_text(f'# What can leave\n\nMade by `{command}` with torch {torch.__version__.split("+")[0]}. '
                            'Cells are the greatest differences from the grown model.\n\n'
                            f'{table}\n\n{notes}\n')
    else:
        print(f'\n{table}\n\n{notes}')


if __name__ == '__main__':
    main()
