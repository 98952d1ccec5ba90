"""The core's input, added again: ``x = x + alpha * e`` with e, what entered the core, and alpha, learnt from 0.

Before every added pass through the core and before what follows it, so that a pass does not lose what the one before
was given. Looped language models with it: arXiv 2609.19107; earlier arXiv 2502.05171.

::

    core (1, 2)    0 1 2 1 2 3
    adds e             ^   ^      (e is the input of position 1)
"""
from collections.abc import Callable, Iterator, Sequence

import torch.nn as nn
from torch import Tensor

from .calls import Call
from .layer_map import added_positions, default_core


def core_of(layer_map: object, depth: int, core: Sequence[int] | None, period: int = 1) -> tuple[int, int]:
    """First and last block of the core of a named map.

    Raises:
        ValueError: If the map has no part that runs again as a whole.
    """
    if layer_map == 'cyclic':
        return 0, depth - 1
    if layer_map == 'middle_cycle':
        return tuple(core or default_core(depth, period))
    raise ValueError(f'inject=True is not possible with layer_map={layer_map!r}: there is no core that runs again as a '
                     "whole; it goes with 'middle_cycle' and 'cyclic'")


def injections(layer_map: Sequence[int], core: tuple[int, int]) -> list[int]:
    """The positions to whose input that of the core is added."""
    added = added_positions(layer_map)
    if not any(added):
        return []
    starts = [p for p, block in enumerate(layer_map) if added[p] and block == core[0]]
    return starts + [p for p, block in enumerate(layer_map) if block == core[1] + 1]


def with_core_input(positions: Sequence[nn.Module], entry: int) -> Iterator[Callable]:
    """Yield the positions; those with a factor add what went into the one at index ``entry``.

    What is kept lives as long as one pass through the iterator.
    """
    kept: list[Tensor] = []
    for index, position in enumerate(positions):
        yield _WithCore(position, kept, index == entry) if index == entry or position.inject is not None else position


class _WithCore(Call):
    """A position called with the core's input added, or, where that enters, with it noted."""

    def __init__(self, position: nn.Module, kept: list[Tensor], enters: bool) -> None:
        super().__init__(position, kept=kept, enters=enters)

    def __call__(self, x: Tensor, *args, **kwargs) -> Tensor:
        if self.enters:
            self.kept.append(x)
        else:
            x = x + self.position.inject * self.kept[0]
        return self.position(x, *args, **kwargs)
