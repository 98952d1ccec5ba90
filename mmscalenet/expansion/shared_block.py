"""A block that several positions run, each through the block's own ``__call__``.

So whatever is hung on the block sees every use: hooks, FSDP around it, checkpointing of its forward.
"""
from collections.abc import Callable
from functools import partial

from torch import Tensor

from .binding import Bound
from .position import Position


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
