"""A grown DeiT or Swin as its parent's own class: deeper, with wider FFNs, and nothing of ours.

::

    positions       norm1  attn  norm2  ffn (C -> 4 C -> C)  +  adapter (C -> 5/12 C -> C)
    plain blocks    norm1  attn  norm2  ffn (C -> 4 5/12 C -> C)
"""
import math
from collections.abc import Mapping
from copy import deepcopy

import torch
from torch import Tensor, nn

from mmscalenet.engine import UsageError
from mmscalenet.expansion import PositionList, position_lists
from mmscalenet.expansion.blocks import Split, kind_of
from mmscalenet.models.backbones.scalenet import EXPAND_ARGUMENTS, ScaleNet, arguments_of

#: Parents whose ``mlp_ratio`` may be a fraction. Others give torch the product as it is, which must be whole.
FRACTIONS = ('mmseg.models.backbones.swin.SwinTransformer', )


def make_plain(backbone: ScaleNet, config: Mapping, scope: str) -> dict:
    """Unroll a grown backbone, in place, into blocks that its parent's class can have, and write the config of that.

    FFNs that are narrower than the config can say get channels of zeros, which change nothing: where positions differ,
    and where the width has to be a whole multiple of the model's.

    Args:
        backbone (ScaleNet): Built and loaded, at the depth that is wanted.
        config (Mapping): The config that it was built from.
        scope (str): The library whose config it is.

    Returns:
        dict: The config of the plain backbone.

    Raises:
        UsageError: If the backbone computes what its parent cannot; named with the place.
    """
    if not all(isinstance(kind_of(block), Split) for positions in position_lists(backbone).values()
               for block in positions.blocks):
        raise UsageError(f'a grown {backbone._parts[1].__name__} cannot be written as a plain one: that is known of '
                         'DeiT and Swin alone. Export it to ONNX instead.')
    if registers := getattr(backbone, 'num_register_tokens', 0):
        raise UsageError(f'num_register_tokens={registers}: the library has no ViT with register tokens. Export it to '
                         'ONNX instead.')
    last = [positions[-1] for positions in position_lists(backbone).values()][-1]
    drop_path_rate = last.drop_path.drop_prob  # it grows linearly up to that, here as there
    backbone.switch_to_deploy()
    lists = position_lists(backbone)
    for name, positions in lists.items():
        _check(name, positions)
    parent = backbone._parts[1]
    known = arguments_of(parent)
    ours = {*EXPAND_ARGUMENTS, *backbone.own_arguments(), 'base', 'type', 'init_cfg', 'pretrained'}
    plain = {key: deepcopy(value) for key, value in config.items() if key not in ours}
    library = parent.__module__.split('.')[0]
    plain['type'] = parent.__name__ if library == scope else f'{library}.{parent.__name__}'
    plain['drop_path_rate'] = round(drop_path_rate, 7)  # parents compute it in float32
    if config.get('with_cp') and 'with_cp' in known:
        plain['with_cp'] = True
    if 'layers' in lists:
        plain['out_indices'] = list(backbone.out_indices)
        plain.pop('frozen_stages', None)  # counted blocks, of which each may be many layers now
    dims, widths = _dims(lists), [max(_width(block, backbone) for block in positions.blocks)
                                  for positions in lists.values()]
    depths = [len(positions) for positions in lists.values()]
    if 'arch' in known:  # mmpretrain
        heads = backbone.arch_settings['num_heads']
        if 'layers' in lists:
            plain['arch'] = dict(embed_dims=dims[0], num_layers=depths[0], num_heads=heads,
                                 feedforward_channels=widths[0])
        else:
            plain['arch'] = dict(embed_dims=dims[0], depths=depths, num_heads=heads)
            plain['stage_cfgs'] = [_widened(plain.get('stage_cfgs'), s, width) for s, width in enumerate(widths)]
    else:
        plain.update(dict(num_layers=depths[0]) if 'layers' in lists else dict(depths=depths))
        full_name = f'{parent.__module__}.{parent.__name__}'
        plain['mlp_ratio'] = ratio = _ratio(widths, dims, full_name in FRACTIONS)
        widths = [int(ratio * dim) for dim in dims]
    for positions, width in zip(lists.values(), widths, strict=True):
        for block in positions.blocks:
            _pad(block.ffn, width)
    return plain


def plain_state(state: Mapping[str, Tensor], plain: nn.Module) -> dict[str, Tensor]:
    """The weights of an unrolled model for the plain one.

    Args:
        state (Mapping[str, Tensor]): Those of the model whose backbone :func:`make_plain` has unrolled.
        plain (nn.Module): The plain model, which knows the names.
    """
    result = {key: value for key, value in state.items() if not key.endswith('.inject')}  # the rest was refused
    for key, value in plain.state_dict().items():
        if key.endswith('.ffn.gamma2.weight') and key not in result:  # LayerScale, folded into the FFN
            result[key] = torch.ones_like(value)
    return result


def _check(name: str, positions: PositionList) -> None:
    """Raise a UsageError where something of a position is left that no plain block has."""
    if positions.core_entry is not None and len(positions) != positions.num_base:
        raise UsageError(f'backbone.{name}: inject=True adds the input of the core again, which no plain backbone '
                         'does. Export it to ONNX instead.')
    for p, position in enumerate(positions):
        place = f'backbone.{name}, position {p}'
        if position.around_attention is not None:
            raise UsageError(f'{place} attends within windows (window_size of ScaleNetDeiT), which no plain ViT does. '
                             'Export it to ONNX instead.')
        if position.adapter is not None:
            raise UsageError(f'{place}: a {type(position.adapter).__name__} cannot be folded into the FFN, as it is '
                             'no bottleneck with the activation of the FFN. Export it to ONNX instead.')


def _dims(lists: Mapping[str, PositionList]) -> list[int]:
    """Channels of each list of blocks."""
    return [next(module for module in positions.blocks[0].modules() if isinstance(module, nn.LayerNorm))
            .normalized_shape[0] for positions in lists.values()]


def _width(block: nn.Module, backbone: ScaleNet) -> int:
    """Of the FFN as configs give it. A SwiGLU's is wider than what it makes of it, and as the base has it."""
    return getattr(block.ffn, 'feedforward_channels', None) or backbone.arch_settings['feedforward_channels']


def _widened(stage_cfgs: object, stage: int, width: int) -> dict:
    """The config of a stage of mmpretrain's Swin with an FFN of that width."""
    config = deepcopy(dict((stage_cfgs[stage] if isinstance(stage_cfgs, (list, tuple)) else stage_cfgs) or {}))
    blocks = config.get('block_cfgs') or {}
    if not isinstance(blocks, Mapping):
        raise UsageError(f'stage_cfgs: block_cfgs={blocks!r} is a list with an entry for each block of the base; '
                         'give one for all of a stage.')
    config['block_cfgs'] = dict(blocks, ffn_cfgs=dict(blocks.get('ffn_cfgs') or {}, feedforward_channels=width))
    return config


def _ratio(widths: list[int], dims: list[int], fraction: bool) -> float:
    """The smallest ``mlp_ratio`` with which no FFN is narrower than it has to be."""
    exact = max(width / dim for width, dim in zip(widths, dims, strict=True))
    if not fraction or exact == int(exact):
        return math.ceil(exact)
    # a little more, so that the whole number below the product is not one less
    return max((width + 0.5) / dim for width, dim in zip(widths, dims, strict=True))


@torch.no_grad()
def _pad(ffn: nn.Module, width: int) -> None:
    """Give an FFN of mmcv hidden channels of zeros, up to ``width``."""
    if (more := width - getattr(ffn, 'feedforward_channels', width)) <= 0:
        return
    hidden, out = ffn.layers[0][0], ffn.layers[1]
    hidden.weight = nn.Parameter(torch.cat([hidden.weight, hidden.weight.new_zeros(more, hidden.in_features)]))
    hidden.bias = nn.Parameter(torch.cat([hidden.bias, hidden.bias.new_zeros(more)]))
    out.weight = nn.Parameter(torch.cat([out.weight, out.weight.new_zeros(out.out_features, more)], 1))
    ffn.feedforward_channels = hidden.out_features = out.in_features = width
