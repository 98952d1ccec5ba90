"""At which depth each iteration of a training runs: the same on all ranks and when resumed. No torch, no runner."""
import random
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class DepthSchedule:
    """Depths over iterations, which count from 0.

    ::

        grow      base | full                        from ``begin`` on
        ramp      base | base or full, drawn | full  the chance of full rises from ``begin`` and is 1 from ``end`` on
        elastic   base | one of ``depths``, drawn    from ``begin`` on

    Args:
        mode (str): 'grow', 'ramp' or 'elastic'.
        base (int): The base's depth.
        full (int): The full one.
        begin (int): The first iteration that may run deeper than the base.
        end (int): The first iteration of 'ramp' that certainly runs at the full depth. Defaults to 0.
        depths (Sequence[int]): What 'elastic' draws from, ascending.
        sandwich (int): Iterations of a step of the optimizer, the first of which runs at the smallest depth, the second
            at the largest. Defaults to 0: all are drawn.
        seed (int): Seed of the draws. Defaults to 0.
    """
    mode: str
    base: int
    full: int
    begin: int
    end: int = 0
    depths: Sequence[int] = ()
    sandwich: int = 0
    seed: int = 0

    def at(self, iteration: int) -> int:
        """The depth that the iteration trains."""
        if iteration < self.begin:
            return self.base
        if self.mode == 'grow' or (self.mode == 'ramp' and iteration >= self.end):
            return self.full
        draw = random.Random(f'{self.seed} {iteration}')  # of its own, so that it does not depend on what ran before
        if self.mode == 'ramp':
            chance = (iteration - self.begin + 1) / (self.end - self.begin + 1)
            return self.full if draw.random() < chance else self.base
        if self.sandwich and iteration % self.sandwich < 2:
            return self.depths[-(iteration % self.sandwich)]
        return draw.choice(self.depths)

    def settled(self, iteration: int) -> int:
        """The depth at which the net that this iteration left is evaluated: the base's before ``begin``, then the
        largest that is trained."""
        return self.base if iteration < self.begin else max(self.depths) if self.mode == 'elastic' else self.full
