"""Parameters, multiply-adds and activation memory of the models of configs, as a markdown table.

Works for configs of mmpretrain, mmdet and mmseg. Multiply-adds are half the FLOPs, as the model zoos of the three
libraries print them: of matrix products, those inside attention included (which mmengine's counter does not see), and
convolutions; the rest is small and left out. With ``--memory`` a column says what a forward pass in training keeps for
the backward pass: the tensors that autograd saves, each storage once, without the weights. Gradients, optimizer and
temporary buffers come on top, and checkpointing (``with_cp``) is not seen.

    python tools/analysis_tools/get_flops.py configs/deit/*.py
    python tools/analysis_tools/get_flops.py configs/scalenet_deit_in1k.py --scales 1 2 3 4 --memory
    python tools/analysis_tools/get_flops.py configs/mask_rcnn_scalenet_swin.py --backbone --depth 18
"""
import argparse
import gc
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.nn as nn
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import BaseDataElement
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from mmscalenet.engine import (
    UsageError,
    add_depth_argument,
    backbone_of,
    full_type,
    one_line_errors,
    read_config,
    short_type,
    use_depth,
    whole_file,
)
from mmscalenet.engine.cli import datasets
from mmscalenet.expansion.recompute import LIGHT


def build(cfg: Config, backbone: bool = False) -> nn.Module:
    """Builds the model of a config, or its backbone alone, with random weights."""
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    model = ConfigDict(cfg.model)
    if 'data_preprocessor' in cfg:
        model.setdefault('data_preprocessor', cfg.data_preprocessor)
    try:
        return MODELS.build(backbone_of(cfg) if backbone else model)
    except (ValueError, TypeError) as error:
        raise UsageError(f'the config is refused: {error}') from error


def run(model: nn.Module, images: torch.Tensor) -> object:
    """One forward pass of a backbone or of a whole model; data samples carry only what a detector asks for."""
    if not hasattr(model, 'data_preprocessor'):
        return model(images)
    shape = tuple(images.shape[2:])
    sample = BaseDataElement(metainfo=dict(img_shape=shape, ori_shape=shape, pad_shape=shape, batch_input_shape=shape,
                                           scale_factor=(1., 1.)))
    return model(images, [sample.clone() for _ in images], mode='tensor')


@contextmanager
def plain_attention() -> Iterator[None]:
    """Lets scaled-dot-product attention run as two matrix products, which every version of torch counts."""
    cuda = torch.backends.cuda
    before = cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled()
    cuda.enable_flash_sdp(False)
    cuda.enable_mem_efficient_sdp(False)
    try:
        yield
    finally:
        cuda.enable_flash_sdp(before[0])
        cuda.enable_mem_efficient_sdp(before[1])


@contextmanager
def counting() -> Iterator[FlopCounterMode]:
    """Counts the FLOPs, twice the multiply-adds, of what runs inside."""
    counter = FlopCounterMode(display=False)
    # With gradients on: without them torch's own attention layer takes a fused path that is not counted. What would be
    # kept for them is dropped, as whole attention matrices of large images would fill the memory.
    with plain_attention(), counter, torch.autograd.graph.saved_tensors_hooks(lambda tensor: None, lambda none: none):
        yield counter


@contextmanager
def keeping(*modules: nn.Module) -> Iterator[dict[int, torch.UntypedStorage]]:
    """Collects what autograd keeps of what runs inside, by address: each storage once, without the modules' weights.

    No backward pass can follow: autograd gets nothing back, as a graph that holds its own outputs is never freed.
    """
    weights = {tensor.untyped_storage().data_ptr() for module in modules
               for tensor in (*module.parameters(), *module.buffers())}
    kept = {}

    def keep(tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage  # which also keeps the address from being used again

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda none: none):
        yield kept


def random_images(model: nn.Module, batch: int, shape: tuple[int, int, int]) -> torch.Tensor:
    """Images on the model's device."""
    return torch.randn(batch, *shape, device=next(model.parameters()).device)


def count_multiply_adds(model: nn.Module, shape: tuple[int, int, int], batch: int = 1) -> int:
    """Multiply-adds of one image in inference, or of a batch.

    Args:
        model (nn.Module): A whole model or a backbone.
        shape (tuple[int, int, int]): Channels, height and width of the image.
        batch (int): Number of images. LoRA changes its weights once for all of them. Defaults to 1.
    """
    model.eval()
    with counting() as counter:
        run(model, random_images(model, batch, shape))
    return counter.get_total_flops() // 2


def count_activation_bytes(model: nn.Module, shape: tuple[int, int, int]) -> int:
    """Bytes an image adds to what autograd keeps for the backward pass of a training step; arguments as above."""
    model.train()
    batch = 2  # as batch norm needs more than one value
    images = random_images(model, batch, shape)
    if any(getattr(module, 'with_cp', None) == LIGHT for module in model.modules()):
        return _bytes_left_by(lambda: run(model, images)) // batch
    with keeping(model) as kept:
        run(model, images)
    return sum(storage.nbytes() for storage in kept.values()) // batch


def _bytes_left_by(forward: Callable[[], object]) -> int:
    """What has been allocated and not freed on the CPU when ``forward`` is done, its outputs included: where positions
    decide by themselves what autograd keeps, nobody else can collect it."""
    forward()  # what is made once
    torch.clear_autocast_cache()  # copies of the weights are made in each step
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        outputs = forward()  # noqa: F841  holds the graph
    return sum(event.self_cpu_memory_usage for event in profiler.key_averages())


def table(rows: list[dict[str, str]]) -> str:
    """A markdown table with the keys of the rows as its head."""
    head = list(rows[0])
    lines = [head, ['---'] + ['---:'] * (len(head) - 1), *(list(row.values()) for row in rows)]
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)


def default_shape(cfg: Config) -> list[int]:
    """The backbone's own image size, else ImageNet's."""
    return _height_and_width(backbone_of(cfg).get('img_size', 224))


def image_shape(cfg: Config) -> list[int]:
    """Of the images that the model sees: the crops of a segmentor, else what the test pipeline gives, else the
    backbone's own."""
    preprocessor = cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    if preprocessor.get('size'):
        return _height_and_width(preprocessor.size)
    transforms = [transform for dataset in datasets(cfg, ['test']) for transform in dataset.get('pipeline') or []]
    for transform in reversed(transforms):
        kind = short_type(transform)
        if kind == 'CenterCrop':
            return _height_and_width(transform.crop_size)
        if kind == 'Resize' and transform.get('scale'):
            return _height_and_width(transform.scale)[::-1]  # it has the width first
    return default_shape(cfg)


def _height_and_width(size: int | Sequence[int]) -> list[int]:
    return [size] if isinstance(size, int) else list(size)


def models_of(args: argparse.Namespace) -> Iterator[tuple[str, Config]]:
    """Name and config of every row.

    Raises:
        UsageError: If a config does not exist, or is to be scaled and is not of a ScaleNet.
    """
    for path in args.configs:
        for scale in args.scales or [None]:
            options = dict(args.cfg_options or {})
            name = Path(path).stem
            if scale is not None:
                options['model.backbone.scale'] = int(scale) if scale == int(scale) else scale
                name += f', scale {scale:g}'
            cfg = read_config(path, options)
            use_depth(cfg, args.depth)
            kind = full_type(backbone_of(cfg))
            if scale is not None and 'ScaleNet' not in kind:
                raise UsageError(f'--scales needs configs of a ScaleNet backbone, and that of "{path}" is {kind}.')
            yield name, cfg


def measure(cfg: Config, shape: list[int] | None, backbone: bool, memory: bool) -> dict[str, str]:
    """The figures of one model, as cells of the table."""
    model = build(cfg, backbone)
    size = shape or image_shape(cfg)
    image = (cfg.model.backbone.get('in_channels', 3), size[0], size[-1])
    row = {
        'image': 'x'.join(map(str, image)),
        'parameters (M)': f'{sum(p.numel() for p in model.parameters()) / 1e6:.3f}',
        'multiply-adds (G)': f'{count_multiply_adds(model, image) / 1e9:.3f}',
    }
    if memory:
        row['activations (MiB per image)'] = f'{count_activation_bytes(model, image) / 2**20:.1f}'
    del model
    gc.collect()  # the graphs of counted passes refer to themselves, and a list of large models would fill the memory
    return row


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('configs', nargs='+', metavar='config')
    parser.add_argument('--shape', nargs='+', type=int, help='height and width, or one number for both; default: '
                        "the crops of a segmentor, else what the test pipeline gives")
    parser.add_argument('--scales', nargs='+', type=float, help='one row of each config for each of these values of '
                        'model.backbone.scale')
    add_depth_argument(parser)
    parser.add_argument('--backbone', action='store_true', help='the backbone alone')
    parser.add_argument('--memory', action='store_true', help='with a column for the memory of activations')
    parser.add_argument('--out', help='markdown file to write, with the command that made it')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='key=value settings for every config')
    return parser.parse_args()


@one_line_errors
def main() -> None:
    args = parse_args()
    if args.shape and (len(args.shape) > 2 or min(args.shape) < 1):
        raise UsageError(f'--shape {args.shape} is not allowed: give height and width, or one number for both.')
    MMLogger.get_instance('get_flops', log_level='WARNING')
    rows = []
    for name, cfg in models_of(args):
        rows.append({'model': name, **measure(cfg, args.shape, args.backbone, args.memory)})
        print(*rows[-1].values(), sep='  ', flush=True)
    text = table(rows)
    print(f'\n{text}')
    if args.out:
        command = shlex.join(['python', os.path.relpath(sys.argv[0]), *sys.argv[1:]])
        with whole_file(args.out) as path:
            path.write_text(f'Made by `{command}` with torch {torch.__version__}.\n\n{text}\n')


if __name__ == '__main__':
    main()
