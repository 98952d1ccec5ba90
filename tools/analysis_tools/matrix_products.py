"""The matrix products of a pass alone: the time below which the pass cannot come without other kernels."""
from typing import NamedTuple

import torch
from timing import step
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_unflatten

_aten = torch.ops.aten
#: As kernels see them: linear layers and batched products of any shape have become these.
PRODUCTS = (_aten.mm, _aten.addmm, _aten.bmm, _aten.baddbmm, _aten.convolution, _aten.convolution_backward)


class _Layout(NamedTuple):
    """What the time of a product depends on: its operands' numbers do not matter."""
    shape: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device

    def random(self) -> Tensor:
        size = 1 + sum((length - 1) * gap for length, gap in zip(self.shape, self.stride, strict=True))
        numbers = torch.randn(size) if self.dtype.is_floating_point else torch.zeros(size)
        return numbers.to(self.device, self.dtype).as_strided(self.shape, self.stride)


class MatrixProducts(TorchDispatchMode):
    """Notes every matrix product, convolution and attention kernel that runs inside, and runs them alone.

    Their operands are random tensors of the same layout. Calls of the same layout share them, so that less memory is
    read than in the model: the floor is a low one.
    """

    def __init__(self) -> None:
        super().__init__()
        self._calls, self._operands = [], {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None) -> object:
        if func.overloadpacket in PRODUCTS or 'scaled_dot_product' in func.name():
            leaves, structure = tree_flatten((args, kwargs or {}))
            leaves = [self._stand_in(place, leaf) for place, leaf in enumerate(leaves)]
            self._calls.append((func, tree_unflatten(leaves, structure)))
        return func(*args, **(kwargs or {}))

    def _stand_in(self, place: int, leaf: object) -> object:
        """A random tensor for a tensor, one for each place among the arguments; anything else as it is."""
        if not isinstance(leaf, Tensor):
            return leaf
        layout = _Layout(leaf.shape, leaf.stride(), leaf.dtype, leaf.device)
        if (place, layout) not in self._operands:
            self._operands[place, layout] = layout.random()
        return self._operands[place, layout]

    def __len__(self) -> int:
        return len(self._calls)

    @torch.no_grad()
    def run(self) -> None:
        """All of them, in the order of the pass; what they give is dropped."""
        for func, (args, kwargs) in self._calls:
            func(*args, **kwargs)


def products_of(model: nn.Module, image: Tensor, training: bool) -> MatrixProducts:
    """The products of one forward, and in training of one backward, as ``timing.seconds`` runs them."""
    model.train(training)
    with MatrixProducts() as products:
        step(model, image, training)
    model.zero_grad()
    return products
