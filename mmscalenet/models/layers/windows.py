"""Where tokens go when a map is cut into windows, and which of them may see one another.

All that depends on shapes alone is made once for each of them, and tokens move in one step each way.
"""
from collections.abc import Callable
from functools import lru_cache, wraps

import torch
from torch import Tensor, nn

from mmscalenet.expansion.compiling import is_compiling


def kept(function: Callable) -> Callable:
    """Keep the tensors that ``function`` makes, for the last 64 arguments.

    Not while a compiler looks on with tensors that hold no data: they would be left for those who come after it.
    """
    make = torch.inference_mode(False)(function)  # also for later training
    cached = lru_cache(maxsize=64)(make)

    @wraps(function)
    def wrapper(*args) -> Tensor | tuple[Tensor, ...]:
        return (cached if type(torch.empty(0)) is Tensor else make)(*args)

    wrapper.cache_info = cached.cache_info
    return wrapper


@kept
def edge_masks(size: int, shift: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """The masks of the four kinds of shifted windows, (4, N, N) with N = size**2: inside, right, bottom, corner.

    -100 between tokens that only the cyclic shift brought together, as in the parents, else 0.
    """
    wrapped = torch.arange(size, device=device) >= size - shift
    row, column = (grid.flatten().int() for grid in torch.meshgrid(wrapped, wrapped, indexing='ij'))
    regions = torch.stack([row * 0, column, row, 2 * row + column])
    return (regions[:, :, None] != regions[:, None, :]).to(dtype) * -100


@kept
def window_kinds(rows: int, columns: int, device: torch.device) -> Tensor:
    """Which of the four masks each of rows x columns windows takes, (rows * columns,)."""
    kinds = torch.zeros(rows, columns, dtype=torch.long, device=device)
    kinds[:, -1] += 1
    kinds[-1, :] += 2
    return kinds.flatten()


@kept
def window_order(height: int, width: int, size: int, shift: int,
                 device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Where tokens go: the token at every place of the windows, the places of padding, the place of every token."""
    length, rows, columns = height * width, -(-height // size), -(-width // size)
    total = rows * columns * size**2
    # padding is numbered behind the tokens
    below = torch.arange(length + height * (columns * size - width), total, device=device).view(-1, columns * size)
    right = torch.arange(length, total - below.numel(), device=device).view(height, -1)
    tokens = torch.cat([torch.cat([torch.arange(length, device=device).view(height, width), right], 1), below])
    tokens = tokens.roll((-shift, -shift), (0, 1))
    order = tokens.view(rows, size, columns, size).transpose(1, 2).flatten()
    # no argsort: a compiled graph does this again at every position
    places = torch.empty_like(order).scatter(0, order, torch.arange(total, device=device))
    return order % length, places[length:], places[:length]


def _to_windows(x: Tensor, order: Tensor, padding: Tensor) -> Tensor:
    x = x.index_select(1, order)
    if not len(padding):
        return x
    # torch.compile loses the gradient of a function that changes a tensor in place
    return x.index_fill(1, padding, 0) if is_compiling() else x.index_fill_(1, padding, 0)


class ToWindows(torch.autograd.Function):
    """The gradient is a gather as well, not the slower scatter: each of the two is the other's."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, order: Tensor, padding: Tensor, place: Tensor) -> Tensor:
        return _to_windows(x, order, padding)

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: Tensor) -> None:
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple:
        return FromWindows.apply(grad, *ctx.saved_tensors), None, None, None


class FromWindows(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, order: Tensor, padding: Tensor, place: Tensor) -> Tensor:
        return x.index_select(1, place)

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: Tensor) -> None:
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple:
        return ToWindows.apply(grad, *ctx.saved_tensors), None, None, None


class TokensToWindows(nn.Module):
    """Tokens (B, L, C) into the order of windows, padding included; ``places`` is what :func:`window_order` gives.

    A module, so that ``with_cp='light'`` finds it.
    """
    only_moves = True

    def forward(self, x: Tensor, places: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        # a trace to be saved (TorchScript, ONNX) can hold operators of torch alone
        return _to_windows(x, *places[:2]) if torch.jit.is_tracing() else ToWindows.apply(x, *places)


def from_windows(x: Tensor, places: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """The way back from :class:`TokensToWindows`; padding is dropped."""
    return x.index_select(1, places[2]) if torch.jit.is_tracing() else FromWindows.apply(x, *places)
