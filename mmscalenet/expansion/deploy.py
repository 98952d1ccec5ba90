"""Folding: a block that computes by its weights alone what a position makes of a shared one."""
import copy

import torch
import torch.nn as nn

from .adapters import Adapter, is_plain
from .blocks import Split
from .position import Position

#: Names of the last linear map of attention, and of a SwiGLU; in the FFN of mmcv it has a number. What wraps one, as
#: LoRA does, names its own otherwise.
LAST_MAPS = ('proj', 'out_proj', 'w3')


@torch.no_grad()
def fold(position: Position, block: nn.Module) -> nn.Module:
    """Move what a position owns into a copy of its block, as far as it can be expressed there.

    Norms and weights of LoRA take the place of the block's, gates scale the last linear map of their branch, a parallel
    adapter widens the FFN. What cannot be expressed so stays with the position: a parallel adapter beside an FFN of
    another kind or activation, an adapter of one's own, the factor of the core's input, and everything where the inside
    of the block is not known, or a tool has put a module of its own in the place of a linear map.

    Args:
        position (Position): The position; what was folded is removed from it.
        block (nn.Module): The block that it runs. Left as it is.

    Returns:
        nn.Module: The copy, for this position alone.
    """
    block = copy.deepcopy(block)
    kind, adapter = position.kind, position.adapter
    weights = {} if adapter is None else adapter.weights(block)
    in_weights_alone = adapter is not None and type(adapter).forward is Adapter.forward
    position.fold_norms(block)
    if weights and not in_weights_alone:
        return block
    for name, weight in weights.items():
        block.get_parameter(name).copy_(weight)
    if in_weights_alone:
        position.adapter = adapter = None
    if not isinstance(kind, Split):
        return block
    if (factors := position.factors()) is not None:
        ends = [_last_map(branch) for branch in (block.attn, block.ffn)]
        if None in ends:
            return block
        for factor, last in zip(factors, ends, strict=True):
            last.weight.mul_(factor)
            if last.bias is not None:
                last.bias.mul_(factor)
    position.gate, position.divide = None, False
    if adapter is not None and adapter.fold_into(block.ffn):
        position.adapter = None
    return block


def _last_map(branch: nn.Module) -> nn.Linear | None:
    """The linear map in which a branch ends; None where it is not as the libraries build it."""
    name, last = [(name, module) for name, module in branch.named_modules() if isinstance(module, nn.Linear)][-1]
    name = name.rpartition('.')[2]
    return last if is_plain(last) and (name.isdigit() or name in LAST_MAPS) else None
