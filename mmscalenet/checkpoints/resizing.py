"""Position embeddings and relative position biases for another image or window size: bicubic, as in all parents."""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from .errors import CheckpointError

RESIZED = ('pos_embed', 'absolute_pos_embed', 'relative_position_bias_table')


def resize(name: str, value: Tensor, wanted: Tensor, backbone: nn.Module) -> tuple[Tensor, str] | None:
    """Bring a file's tensor to the model's size.

    Args:
        name (str): Name of the tensor.
        value (Tensor): The file's: pos_embed (1, extra + h * w, C) or bias table ((2 * window - 1)**2, heads).
        wanted (Tensor): The model's.
        backbone (nn.Module): The model.

    Returns:
        tuple[Tensor, str] | None: The resized tensor and a note for the report, '' if it has but got rows of zeros, or
        None if resizing does not make it fit.
    """
    kind = name.rpartition('.')[2]
    if kind not in RESIZED or value.dim() != wanted.dim() or value.shape[-1] != wanted.shape[-1]:
        return None
    if kind == 'relative_position_bias_table':
        old, new = _square(name, len(value)), _square(name, len(wanted))
        note = f'window {old[0] // 2 + 1} to {new[0] // 2 + 1}'
        return _interpolate(value, old, new, 'bicubic'), note
    extra = _extra_rows(backbone, wanted.shape[1]) if kind == 'pos_embed' else 0
    value = with_token_rows(value, extra, wanted.shape[1] - extra) if extra \
        else _without_empty_rows(value, _tokens(backbone))
    old, new = _square(name, value.shape[1] - extra), _grid(name, backbone, wanted.shape[1] - extra)
    if old == new:
        return value, '' if extra else 'without rows of tokens'
    grid = _interpolate(value[0, extra:], old, new, getattr(backbone, 'interpolate_mode', 'bicubic'))
    note = f'{old[0]}x{old[1]} to {new[0]}x{new[1]} patches'
    return torch.cat((value[:, :extra], grid[None]), dim=1), note


def with_token_rows(value: Tensor, tokens: int, patches: int) -> Tensor:
    """A file's pos_embed with rows for its tokens: of zeros, which are the same, where it has none, as DeiT III.

    Args:
        value (Tensor): (1, rows, C), where n * n rows can be of as many patches, or of a class token and a grid of
            (n - 1) * (n + 1), whichever is the smoother.
        tokens (int): Class token and distillation token.
        patches (int): Those of the model; what has as many is not asked further.

    Returns:
        Tensor: (1, tokens + h * w, C), or the value itself.
    """
    rows, side = value.shape[1], math.isqrt(value.shape[1])
    if rows - tokens == patches:
        return value
    has_none = rows == patches or side**2 == rows and not _is_oblong(value, tokens, side)
    return F.pad(value, (0, 0, tokens, 0)) if has_none else value


def _is_oblong(value: Tensor, tokens: int, side: int) -> bool:
    """Whether rows of tokens and a grid that is not a square are the better reading of side**2 rows."""
    def steps(rows: Tensor, width: int) -> float:
        """From a position to that below it."""
        return (rows[width:] - rows[:-width]).float().square().mean().item()

    return tokens == 1 and side > 2 and min(
        steps(value[0, 1:], width) for width in (side - 1, side + 1)) < 0.8 * steps(value[0], side)


def _tokens(backbone: nn.Module) -> int:
    return sum(getattr(backbone, name, None) is not None for name in ('cls_token', 'dist_token'))


def _extra_rows(backbone: nn.Module, rows: int) -> int:
    """Rows of pos_embed for tokens: DeiT III has tokens and no rows for them."""
    size = getattr(backbone.patch_embed, 'init_out_size', None)
    return 0 if size and rows == math.prod(size) else _tokens(backbone)


def _without_empty_rows(value: Tensor, tokens: int) -> Tensor:
    """Without the rows of zeros that stand for tokens where the file has none."""
    rows = value.shape[1] - tokens
    is_padded = tokens and rows > 0 and math.isqrt(rows)**2 == rows and not value[:, :tokens].any()
    return value[:, tokens:] if is_padded else value


def _grid(name: str, backbone: nn.Module, length: int) -> tuple[int, int]:
    """Rows and columns of the model's patches: mmpretrain's and mmseg's know, mmdet's is square."""
    size = getattr(backbone.patch_embed, 'init_out_size', None)
    if size is None and hasattr(backbone, 'img_size'):
        size = tuple(side // backbone.patch_size for side in backbone.img_size)
    return tuple(size) if size and math.prod(size) == length else _square(name, length)


def _square(name: str, length: int) -> tuple[int, int]:
    side = math.isqrt(max(length, 0))
    if length < 1 or side**2 != length:
        raise CheckpointError(f'{name} cannot be resized: its {length} positions are not a square')
    return side, side


def _interpolate(table: Tensor, old: tuple[int, int], new: tuple[int, int], mode: str) -> Tensor:
    """(h * w, C) on another grid."""
    grid = table.float().T.reshape(1, -1, *old)  # bicubic is not there for half precision on a CPU
    align = None if mode == 'nearest' else False
    return F.interpolate(grid, size=new, mode=mode, align_corners=align).flatten(2)[0].T.contiguous().to(table.dtype)
