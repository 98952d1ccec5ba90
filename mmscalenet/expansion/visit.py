"""A visit: a position runs a block whose own forward knows of no positions.

Hooks where the branches of the block begin and end let the position act there: its gate scales a branch, its adapter
adds to the FFN's, its rate of drop path holds. In an unknown block they are where a drop path is.
"""
from typing import TYPE_CHECKING

import torch.nn as nn
from torch import Tensor

from .blocks import Branches, reader_of

if TYPE_CHECKING:
    from .position import Position


class Visit:
    """Which position runs the block at present, and what is on its way; between the calls of a block it is empty."""

    def __init__(self, block: nn.Module, branches: Branches | None) -> None:
        self.position: Position | None = None
        self.factors: Tensor | None = None
        self.extra: Tensor | None = None
        self.in_ffn = False
        self.alone = Alone(block)
        #: Whether what drops branches is in the block.
        self.drops = False
        ends = [block.get_submodule(name) for name in branches.ends] if branches else []
        for module in block.modules():
            if any(module is end for end in ends):
                module.register_forward_hook(self._end)
            elif is_drop_path(module):
                module.register_forward_hook(self._drop)
                self.drops = True
        if branches:
            self.turned = branches.turned
            self.convolves = isinstance(reader_of(block), nn.Conv2d)
            block.get_submodule(branches.ffn).register_forward_pre_hook(self._enter_ffn)

    def begin(self, position: 'Position', factors: Tensor | None) -> None:
        self.position, self.factors, self.extra, self.in_ffn = position, factors, None, False

    def end(self) -> None:
        self.position = self.factors = self.extra = None

    def _enter_ffn(self, module: nn.Module, inputs: tuple) -> None:
        if self.position is None:
            return
        self.in_ffn = True
        if self.position.adapter is not None:
            h = inputs[0]
            maps = self.convolves and h.ndim == 4
            # permute, as the older ONNX exporter writes movedim wrongly
            extra = self.position.adapter(h.permute(0, 2, 3, 1) if maps else h)
            if extra is not None and (maps or (self.turned and not self.convolves)):
                extra = extra.permute(0, 3, 1, 2)
            self.extra = extra

    def _end(self, module: nn.Module, inputs: tuple, out: Tensor) -> Tensor | None:
        position, extra = self.position, self.extra
        if position is None:
            return None
        if self.factors is not None:
            out = self.factors[int(self.in_ffn)] * out
        self.extra = None
        if isinstance(module, nn.modules.normalization.LayerNorm):  # the branch was dropped before the norm
            return out if extra is None else out + position.drop_path(extra)
        return position.drop_path(out if extra is None else out + extra)

    def _drop(self, module: nn.Module, inputs: tuple, out: Tensor) -> Tensor | None:
        return None if self.position is None else self.position.drop_path(out)


class Alone(nn.Module):
    """A block's forward without its hooks, which have run already."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, *args, **kwargs) -> Tensor:
        return self.block.run_alone(*args, **kwargs)


def is_drop_path(module: nn.Module) -> bool:
    """Of any library."""
    return hasattr(module, 'drop_prob') and type(module).__name__.endswith('DropPath')
