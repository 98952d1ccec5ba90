"""Shifted-window attention through scaled_dot_product_attention, for the Swin of mmpretrain, mmdet and mmseg.

The parents build the shift mask anew in every block of every forward, move the tokens in three steps (pad, roll, cut
into windows) each way, and attend outside SDPA. Here the distinct masks (at most four: inside, right edge, bottom edge,
corner) and the place of every token are made once for each shape, and tokens move in one step each way.
Swin Transformer: arXiv 2103.14030, section 3.2.
"""
import torch
import torch.nn as nn
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor

from .windows import TokensToWindows, edge_masks, from_windows, window_kinds, window_order

#: The parents whose attention can be replaced, and the one kind of window attention inside that is.
PARENTS = tuple(f'{module}.{name}' for module in (
    'mmpretrain.models.utils.attention', 'mmdet.models.backbones.swin', 'mmseg.models.backbones.swin')
    for name in ('ShiftWindowMSA', 'WindowMSA'))


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
        self.to_windows = TokensToWindows()
        self.train(parent.training)  # before it has the parent's parts, which keep their own modes
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
        height, width = map(int, hw_shape)  # tensors, where it is traced
        if length != height * width:
            raise ValueError(f'query has {length} tokens, and hw_shape={(height, width)} means {height * width}')
        size, shift = self.window_size, self._shift(height, width)
        places = window_order(height, width, size, shift, query.device)
        x = self.to_windows(query, places).view(-1, size * size, channels)
        x = self._attend(x, -(-height // size), -(-width // size), shift)
        return self.drop(from_windows(x.view(batch, -1, channels), places))

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
        if torch.jit.is_tracing():
            attend = self._traced
        elif x.device.type == 'cpu' and torch.is_grad_enabled() and bias.requires_grad:
            attend = self._softmax
        else:
            attend = self._sdpa
        x = attend(q, k, v, bias, rows, columns, shift)
        return msa.proj_drop(msa.proj(x.transpose(1, 2).reshape(windows, tokens, channels)))

    def _sdpa(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, rows: int, columns: int, shift: int) -> Tensor:
        """(B * rows * columns, heads, N, d) in and out; one mask per window."""
        bias = self._masked(bias, q, rows, columns, shift)
        dropout = self.w_msa.attn_drop.p if self.training else 0.
        return F.scaled_dot_product_attention(
            q, k, v, bias.expand(len(q), -1, -1, -1), dropout, scale=self.w_msa.scale)

    def _traced(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, rows: int, columns: int, shift: int) -> Tensor:
        """The same for a trace to be saved: nothing in place, and no operator that exporters of 2023 do not know."""
        attn = (q * self.w_msa.scale) @ k.transpose(-2, -1) + self._masked(bias, q, rows, columns, shift)
        return self.w_msa.attn_drop(attn.softmax(-1)) @ v

    def _masked(self, bias: Tensor, q: Tensor, rows: int, columns: int, shift: int) -> Tensor:
        """The bias with the masks of shifted windows, (1 or B * rows * columns, 1 or heads, N, N)."""
        bias = bias.to(q.dtype)[None]
        if not shift:
            return bias
        kinds = window_kinds(rows, columns, q.device).repeat(len(q) // (rows * columns))
        return bias + edge_masks(self.window_size, shift, q.device, q.dtype)[kinds][:, None]

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
