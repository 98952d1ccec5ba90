"""What expansions of a net cost, for plan_expansion.py: every kind of position is measured once, and they add up.

An expanded net is what the base has beside its positions, measured on the whole base, and its own positions: each costs
the same wherever it runs in its list of blocks. Parameters are counted on the expanded backbone itself.
"""
import copy
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch
import torch.nn as nn
from get_flops import count_activation_bytes, count_multiply_adds, counting, keeping, random_images, run
from timing import seconds
from torch.utils._python_dispatch import TorchDispatchMode

from mmscalenet.expansion import Position, position_lists
from mmscalenet.expansion.families import window_shift
from mmscalenet.models.layers import set_grid

BATCH = 2  # as in count_activation_bytes, so that what the images of a batch share counts alike


@dataclass(frozen=True)
class Figures:
    """What one net costs. Activations are bytes of one image.

    Attributes:
        positions (tuple[int, ...]): Positions of every list of blocks.
        parameters (int): Parameters.
        trained (int): Those of them that are trained.
        multiply_adds (int): Of one image in inference.
        activations (int): What a forward pass in training keeps for the backward pass.
        checkpointed (int): The same where each position keeps its input alone and is recomputed: what is kept then, and
            what the largest position adds while it is recomputed. An upper bound of the peak, as what follows that
            position may be freed by then.
        seconds (float, optional): Sum of the times of all parts in inference. None if nothing was timed.
    """
    positions: tuple[int, ...]
    parameters: int
    trained: int
    multiply_adds: int
    activations: int
    checkpointed: int
    seconds: float | None = field(compare=False)  # as sums in another order differ in their last digits

    def memory(self, batch: int, checkpointed: bool) -> int:
        """Bytes of a training step in fp32 with AdamW: 16 for a trained parameter (itself, its gradient, two moments),
        4 for another, and the activations of ``batch`` images."""
        activations = self.checkpointed if checkpointed else self.activations
        return 4 * self.parameters + 12 * self.trained + batch * activations


@dataclass(frozen=True)
class Cost:
    """What one position costs; bytes of one image, its input being among the kept ones.

    ``common`` are the storages, by address, that all positions of a kind keep together, as tables of where tokens go.
    """
    multiply_adds: int
    kept: int
    input: int
    common: dict[int, int]
    seconds: float


class CostModel:
    """Predicts the figures of expansions of a base.

    Args:
        model (nn.Module): The base, a ScaleNet at scale 1 built with ``with_cp=True``, so that only the inputs of
            positions have to be held at once; a whole model or the backbone alone.
        shape (tuple[int, int, int]): Channels, height and width of an image.
        runs (int): Timed runs, of which the median counts. 0: nothing is timed. Defaults to 0.
    """

    def __init__(self, model: nn.Module, shape: tuple[int, int, int], runs: int = 0) -> None:
        net = getattr(model, 'backbone', model)
        self.runs, self._kinds = runs, {}
        with _recorded_inputs(net) as self._inputs:
            multiply_adds = count_multiply_adds(model, shape)
        kept = count_activation_bytes(model, shape)
        costs = list(self._costs(net))
        self._multiply_adds = multiply_adds - sum(cost.multiply_adds for cost in costs)
        self._kept = kept - sum(cost.input for cost in costs)
        common = {address: size for cost in costs for address, size in cost.common.items()}
        self._common = sum(common.values()) // BATCH
        self._parameters = [count - own for count, own in zip(_parameters(model), _parameters(net), strict=True)]
        self._seconds = latency(model, shape, runs) - sum(cost.seconds for cost in costs) if runs else None

    def figures(self, net: nn.Module) -> Figures:
        """The figures of the model with ``net`` as its backbone, whose weights need no values."""
        costs = list(self._costs(net))
        parameters, trained = (count + own for count, own in zip(self._parameters, _parameters(net), strict=True))
        return Figures(
            positions=tuple(len(positions.layer_map) for positions in position_lists(net).values()),
            parameters=parameters,
            trained=trained,
            multiply_adds=self._multiply_adds + sum(cost.multiply_adds for cost in costs),
            activations=self._kept + self._common + sum(cost.kept for cost in costs),
            checkpointed=self._kept + sum(c.input for c in costs) + max(c.kept - c.input for c in costs),
            seconds=self._seconds + sum(cost.seconds for cost in costs) if self.runs else None)

    def _costs(self, net: nn.Module) -> Iterator[Cost]:
        live = False  # whether a gradient goes through: not in front of the first weight that is trained
        for name, positions in position_lists(net).items():
            live = live or self._inputs[name][0].requires_grad
            for p, position in enumerate(positions.positions):
                block = positions.block_of(p)
                weights = [(key, weight.shape, weight.requires_grad) for module in (position, block)
                           for key, weight in module.named_parameters()]
                kind = name, live, window_shift(block), position.around_attention is not None, *weights
                if kind not in self._kinds:
                    self._kinds[kind] = self._measure(position, block, name, live)
                yield self._kinds[kind]
                live = live or any(is_trained for *_, is_trained in weights)

    def _measure(self, position: Position, block: nn.Module, name: str, live: bool) -> Cost:
        (image, args), grid = self._inputs[name], self._inputs.get('grid')
        # without the list of positions, in which it looks for its block
        place, position.place = position.place, None
        parts = nn.ModuleList(copy.deepcopy([position, block])).to(image.device)
        position.place = place
        position = parts[0]
        position.place = (parts, '1')
        position.with_cp = False
        if position.around_attention is not None:
            set_grid(grid)
        for weight in parts.parameters():
            nn.init.normal_(weight, std=0.02)

        def call(batch: int) -> None:
            position(image.detach().repeat(batch, *[1] * (image.dim() - 1)).requires_grad_(live), *args)

        parts.eval()
        with counting() as counter:
            call(1)
        parts.train()
        with keeping(parts) as first:
            call(BATCH)
        with keeping(parts) as second:  # while the first is held: what both have is made once for all
            call(BATCH)
        common = {address: storage.nbytes() for address, storage in second.items() if address in first}
        kept = sum(storage.nbytes() for storage in second.values()) - sum(common.values())
        parts.eval()
        once = partial(seconds, position, image, False, lambda position, x: position(x, *args))
        return Cost(multiply_adds=counter.get_total_flops() // 2, kept=kept // BATCH,
                    input=image.untyped_storage().nbytes(), common=common, seconds=_median(self.runs, once))


def latency(model: nn.Module, shape: tuple[int, int, int], runs: int) -> float:
    """Median seconds of a pass of one image in inference."""
    image = random_images(model.eval(), 1, shape)
    return _median(runs, partial(seconds, model, image, False, run))


def _median(runs: int, once: Callable[[], float]) -> float:
    """Of ``runs`` calls, after one that does not count; 0 if there are none."""
    return statistics.median([once() for _ in range(runs + 1)][1:]) if runs else 0.


def _parameters(module: nn.Module) -> tuple[int, int]:
    """All, and those that are trained."""
    sizes = [(weight.numel(), weight.requires_grad) for weight in module.parameters()]
    return sum(size for size, _ in sizes), sum(size for size, is_trained in sizes if is_trained)


@contextmanager
def _recorded_inputs(net: nn.Module) -> Iterator[dict[str, object]]:
    """For every list of blocks what goes into its first position, and for 'grid' the rows and columns of the tokens."""
    inputs, hooks = {}, []

    def note_grid(module: nn.Module, args: tuple, outputs: tuple) -> None:
        inputs['grid'] = tuple(outputs[1])

    for name, positions in position_lists(net).items():
        def note(module: nn.Module, args: tuple, name: str = name) -> None:
            x, *rest = args if module.around_attention is None else args[:1]  # the grid is for positions with windows
            inputs[name] = torch.randn_like(x).requires_grad_(x.requires_grad), rest

        hooks.append(positions.positions[0].register_forward_pre_hook(note))
    if hasattr(net, 'patch_embed'):  # the grid is asked for where windows attend, in a DeiT
        hooks.append(net.patch_embed.register_forward_hook(note_grid))
    try:
        yield inputs
    finally:
        for hook in hooks:
            hook.remove()


class EmptyWeights(TorchDispatchMode):
    """Nets built inside get no random weights, which take most of the time; they serve to count."""

    def __torch_dispatch__(self, func: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None) -> object:
        if func in (torch.ops.aten.uniform_.default, torch.ops.aten.normal_.default):
            return args[0]
        return func(*args, **(kwargs or {}))
