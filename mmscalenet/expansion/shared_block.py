"""A block that several positions run, each through the block's own ``__call__``.

So whatever is hung on the block sees every use: hooks, FSDP around it, checkpointing of its forward.
"""
from collections.abc import Callable
from functools import partial

import torch.nn as nn
from torch import Tensor

from .binding import Bound, bind
from .blocks import Split, kind_of
from .position import Position
from .visit import Visit, is_drop_path


class SharedBlock(Bound):
    """Mixed into the class of a block: runs as the position that calls it does, and alone as the parent's."""

    def forward(self, *args, position: Position | None = None, **kwargs) -> Tensor:
        """Nothing is kept from call to call: a call that is recomputed brings its position again."""
        if args and isinstance(args[-1], Position):
            *args, position = args
        return self.run_alone(*args, **kwargs) if position is None else position.run(self, *args, **kwargs)

    def run_alone(self, *args, **kwargs) -> Tensor:
        """The parent's forward."""
        return super().forward(*args, **kwargs)

    def __setattr__(self, name: str, value: object) -> None:
        # what takes the place of forward may know no keywords: that of mmengine's activation_checkpointing does not
        super().__setattr__(name, partial(_without_keyword, value) if name == 'forward' else value)


def _without_keyword(forward: Callable, *args, position: Position | None = None, **kwargs) -> Tensor:
    return forward(*args, *[position] * (position is not None), **kwargs)


class Undropped(Bound):
    """Mixed into the class of a block's drop path: it shows the base's rate and drops nothing, as positions do."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def prepare_block(block: nn.Module, with_cp: bool) -> None:
    """Make a block one that positions run, and switch off in it what they take over: drop path, the FFN's own residual.

    Args:
        block (nn.Module): The block.
        with_cp (bool): Whether its positions are recomputed in the backward pass, which the block then shows.
    """
    for module in block.modules():
        if is_drop_path(module):
            module.__class__ = bind(Undropped, type(module))
    kind = kind_of(block)
    splits = isinstance(kind, Split)
    if splits:
        block.ffn.add_identity = False
    else:
        block.visit = Visit(block, kind)
    if hasattr(block, 'with_cp'):  # what runs its own forward would recompute it there, without its position
        block.with_cp = with_cp and splits
    block.__class__ = bind(SharedBlock, type(block))
