"""Shifted-window attention through scaled_dot_product_attention, for the Swin of mmpretrain, mmdet and mmseg.

The parents build the shift mask anew in every block of every forward, move the tokens in three steps (pad, roll, cut
into windows) each way, and attend outside SDPA. Here the distinct masks (at most four: inside, right edge, bottom edge,
corner) and the place of every token are made once for each shape, and tokens move in one step each way.
Swin Transformer: arXiv 2103.14030, section 3.2.
"""
from functools import lru_cache

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor
from torch.autograd.function import once_differentiable

#: The parents whose attention can be replaced, and the one kind of window attention inside that is.
PARENTS = tuple(f'{module}.{name}' for module in (
    'mmpretrain.models.utils.attention', 'mmdet.models.backbones.swin', 'mmseg.models.backbones.swin')
    for name in ('ShiftWindowMSA', 'WindowMSA'))


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # also for later training
def edge_masks(size: int, shift: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """The masks of the four kinds of shifted windows, (4, N, N) with N = size**2: inside, right, bottom, corner.

    -100 between tokens that only the cyclic shift brought together, as in the parents, else 0.
    """
    wrapped = torch.arange(size, device=device) >= size - shift
    row, column = (grid.flatten().int() for grid in torch.meshgrid(wrapped, wrapped, indexing='ij'))
    regions = torch.stack([row * 0, column, row, 2 * row + column])
    return (regions[:, :, None] != regions[:, None, :]).to(dtype) * -100


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def window_kinds(rows: int, columns: int, device: torch.device) -> Tensor:
    """Which of the four masks each of rows x columns windows takes, (rows * columns,)."""
    kinds = torch.zeros(rows, columns, dtype=torch.long, device=device)
    kinds[:, -1] += 1
    kinds[-1, :] += 2
    return kinds.flatten()


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def window_order(height: int, width: int, size: int, shift: int,
                 device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Where tokens go: the token at every place of the windows, the places of padding, the place of every token."""
    length = height * width
    tokens = torch.arange(length, device=device).view(height, width)
    tokens = F.pad(tokens, (0, -width % size, 0, -height % size), value=length)
    tokens = tokens.roll((-shift, -shift), (0, 1))
    rows, columns = (n // size for n in tokens.shape)
    order = tokens.view(rows, size, columns, size).transpose(1, 2).flatten()
    return order % length, (order == length).nonzero()[:, 0], order.argsort()[:length]


def _to_windows(x: Tensor, order: Tensor, padding: Tensor) -> Tensor:
    x = x.index_select(1, order)
    return x.index_fill_(1, padding, 0) if len(padding) else x


class ToWindows(torch.autograd.Function):
    """Tokens (B, L, C) into the order of windows. The gradient is a gather as well, not the slower scatter."""

    @staticmethod
    def forward(ctx, x: Tensor, order: Tensor, padding: Tensor, place: Tensor) -> Tensor:
        ctx.save_for_backward(place)
        return _to_windows(x, order, padding)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple:
        return grad.index_select(1, *ctx.saved_tensors), None, None, None


class FromWindows(torch.autograd.Function):
    """The way back from :class:`ToWindows`; padding is dropped."""

    @staticmethod
    def forward(ctx, x: Tensor, order: Tensor, padding: Tensor, place: Tensor) -> Tensor:
        ctx.save_for_backward(order, padding)
        return x.index_select(1, place)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple:
        return _to_windows(grad, *ctx.saved_tensors), None, None, None


class WindowAttention(BaseModule):
    """Takes the place of a ``ShiftWindowMSA`` and keeps its parameters under their names (``w_msa. ...``).

    Args:
        parent (nn.Module): The ``ShiftWindowMSA`` to replace, of mmpretrain, mmdet or mmseg.
    """

    def __init__(self, parent: nn.Module) -> None:
        super().__init__()
        self.window_size = parent.window_size
        self.shift_size = parent.shift_size
        # mmdet and mmseg always pad a map that is smaller than the window
        self.pad_small_map = getattr(parent, 'pad_small_map', True)
        self.w_msa = parent.w_msa
        self.drop = parent.drop

    def forward(self, query: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        """Attend within windows.

        Args:
            query (Tensor): (B, H * W, C).
            hw_shape (tuple[int, int]): H and W.

        Returns:
            Tensor: (B, H * W, C).
        """
        batch, length, channels = query.shape
        height, width = hw_shape
        if length != height * width:
            raise ValueError(f'query has {length} tokens, and hw_shape={tuple(hw_shape)} means {height * width}')
        size, shift = self.window_size, self._shift(height, width)
        places = window_order(height, width, size, shift, query.device)
        # a trace to be saved (TorchScript, ONNX) holds operators of torch alone, which give the same
        plain = torch.jit.is_tracing()
        x = _to_windows(query, *places[:2]) if plain else ToWindows.apply(query, *places)
        x = self._attend(x.view(-1, size * size, channels), -(-height // size), -(-width // size), shift)
        x = x.view(batch, -1, channels)
        return self.drop(x.index_select(1, places[2]) if plain else FromWindows.apply(x, *places))

    def _shift(self, height: int, width: int) -> int:
        """The parents' rule: in classification a map of one window is not shifted, and a smaller one is refused."""
        if self.pad_small_map or min(height, width) > self.window_size:
            return self.shift_size
        if min(height, width) < self.window_size:
            raise ValueError(f'a map of {height}x{width} tokens is smaller than the window ({self.window_size}); set '
                             'pad_small_map=True, give a smaller window_size or a larger image')
        return 0

    def _attend(self, x: Tensor, rows: int, columns: int, shift: int) -> Tensor:
        """Windows (B * rows * columns, N, C) -> the same shape."""
        msa = self.w_msa
        windows, tokens, channels = x.shape
        q, k, v = msa.qkv(x).view(windows, tokens, 3, msa.num_heads, -1).permute(2, 0, 3, 1, 4)
        bias = msa.relative_position_bias_table[msa.relative_position_index.view(-1)]
        bias = bias.view(tokens, tokens, -1).permute(2, 0, 1)
        training_on_cpu = x.device.type == 'cpu' and torch.is_grad_enabled() and bias.requires_grad
        attend = self._softmax if training_on_cpu else self._sdpa
        x = attend(q, k, v, bias, rows, columns, shift)
        return msa.proj_drop(msa.proj(x.transpose(1, 2).reshape(windows, tokens, channels)))

    def _sdpa(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, rows: int, columns: int, shift: int) -> Tensor:
        """(B * rows * columns, heads, N, d) in and out; one mask per window."""
        bias = bias.to(q.dtype)[None]
        if shift:
            kinds = window_kinds(rows, columns, q.device).repeat(len(q) // (rows * columns))
            bias = bias + edge_masks(self.window_size, shift, q.device, q.dtype)[kinds][:, None]
        dropout = self.w_msa.attn_drop.p if self.training else 0.
        return F.scaled_dot_product_attention(
            q, k, v, bias.expand(len(q), -1, -1, -1), dropout, scale=self.w_msa.scale)

    def _softmax(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, rows: int, columns: int, shift: int) -> Tensor:
        """The same, spelt out, for training on a CPU: the fused kernel there has no gradient for the bias, and SDPA's
        fall-back is slower than this. Only the windows at an edge are masked, in place."""
        attn = (q * self.w_msa.scale) @ k.transpose(-2, -1)
        attn += bias.to(attn.dtype)
        if shift:
            masks = edge_masks(self.window_size, shift, q.device, attn.dtype)
            # a constant added to what no backward reads: kept from autograd, which would copy the whole gradient
            grid = attn.detach().view(-1, rows, columns, *attn.shape[1:])
            grid[:, :-1, -1] += masks[1]
            grid[:, -1, :-1] += masks[2]
            grid[:, -1, -1] += masks[3]
        return self.w_msa.attn_drop(attn.softmax(-1)) @ v


def use_sdpa(backbone: nn.Module) -> nn.Module:
    """Replace the window attention of a Swin of mmpretrain, mmdet or mmseg in place.

    Args:
        backbone (nn.Module): A built Swin, expanded or not.

    Returns:
        nn.Module: The same backbone. Attention of another kind (Swin V2) is left as it is.
    """
    for module in list(backbone.modules()):
        attn = getattr(module, 'attn', None)
        if _name(attn) in PARENTS and _name(attn.w_msa) in PARENTS:
            module.attn = WindowAttention(attn)
    return backbone


def _name(module: object) -> str:
    return f'{type(module).__module__}.{type(module).__qualname__}'
