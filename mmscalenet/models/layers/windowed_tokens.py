"""Attention of a plain transformer within windows: ViTDet, arXiv 2203.16527, section 3 ("Backbone adaptation")."""
from collections.abc import Callable

import torch.nn as nn
from torch import Tensor

from .windows import from_windows, to_windows, window_order


class WindowedTokens(nn.Module):
    """Runs an attention within windows that do not overlap. Maps are padded with zeros, as in ViTDet.

    Args:
        size (int): Side of a window in tokens.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        #: Rows and columns of the tokens of the image that runs, for a parent that does not hand them on.
        self.hw_shape: tuple[int, int] | None = None

    def extra_repr(self) -> str:
        return f'size={self.size}'

    def forward(self, attention: Callable[[Tensor], Tensor], x: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        """Apply ``attention`` to the windows of ``x``, (B, H * W, C) in and out."""
        batch, length, channels = x.shape
        height, width = map(int, hw_shape)  # tensors, where it is traced
        if length != height * width:
            raise ValueError(f'{length} tokens are no map of {height}x{width}')
        places = window_order(height, width, self.size, 0, x.device)
        out = attention(to_windows(x, places).view(-1, self.size**2, channels))
        return from_windows(out.reshape(batch, -1, channels), places)
