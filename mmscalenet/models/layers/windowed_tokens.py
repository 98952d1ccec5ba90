"""Attention of a plain transformer within windows: ViTDet, arXiv 2203.16527, section 3 ("Backbone adaptation")."""
import threading
from collections.abc import Callable

import torch.nn as nn
from torch import Tensor

from .windows import TokensToWindows, from_windows, window_order

#: Rows and columns of the tokens of the image that runs in this thread, for parents that do not hand them on.
_IMAGE = threading.local()


class WindowedTokens(nn.Module):
    """Runs an attention within windows that do not overlap. Maps are padded with zeros, as in ViTDet.

    Args:
        size (int): Side of a window in tokens.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.to_windows = TokensToWindows()

    @property
    def hw_shape(self) -> tuple[int, int]:
        """Rows and columns of the tokens of the image that runs in this thread."""
        return _IMAGE.hw_shape

    def extra_repr(self) -> str:
        return f'size={self.size}'

    def forward(self, attention: Callable[[Tensor], Tensor], x: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        """Apply ``attention`` to the windows of ``x``, (B, H * W, C) in and out."""
        batch, length, channels = x.shape
        height, width = map(int, hw_shape)  # tensors, where it is traced
        if length != height * width:
            raise ValueError(f'{length} tokens are no map of {height}x{width}')
        places = window_order(height, width, self.size, 0, x.device)
        out = attention(self.to_windows(x, places).view(-1, self.size**2, channels))
        return from_windows(out.reshape(batch, -1, channels), places)


def set_grid(hw_shape: tuple[int, int]) -> None:
    """The windows of this thread are cut out of so many rows and columns from now on."""
    _IMAGE.hw_shape = tuple(hw_shape)


def note_grid(patch_embed: nn.Module, inputs: tuple, outputs: tuple) -> None:
    """Forward hook of a patch embedding: the grid is its own."""
    set_grid(outputs[1])
