"""Families: where a backbone keeps its blocks and how a block splits into its two residual branches.

Classes are named by their full names, so that no task library has to be imported. A further family costs one entry
in ``SPLITS``; a block without an entry still expands, with its adapter beside the whole block.
"""
from collections.abc import Callable
from dataclasses import dataclass

import torch.nn as nn
from torch import Tensor


def _plain_attention(attn: Callable, h: Tensor, *args) -> Tensor:
    return attn(h, *args)


def _attention_adding_identity(attn: Callable, h: Tensor, *args) -> Tensor:
    # mmcv's MultiheadAttention adds ``identity`` itself: zero keeps the branch apart, and 0 + x is exact
    return attn(h, *args, identity=h.new_zeros(()))


@dataclass(frozen=True)
class Split:
    """How ``x = x + attn(norm1(x)); x = x + ffn(norm2(x))`` is spelt in one library."""
    norm1: str = 'norm1'
    norm2: str = 'norm2'
    attention: Callable[..., Tensor] = _plain_attention
    drops_attention: bool = True  # whether drop path applies to the attention's branch too


#: The class whose ``forward`` runs the block -> how that forward splits.
SPLITS: dict[str, Split] = {
    'mmpretrain.models.backbones.vision_transformer.TransformerEncoderLayer': Split('ln1', 'ln2'),
    'mmpretrain.models.backbones.swin_transformer.SwinBlock': Split(),
    'mmdet.models.backbones.swin.SwinBlock': Split(),
    'mmseg.models.backbones.swin.SwinBlock': Split(),
    'mmseg.models.backbones.vit.TransformerEncoderLayer': Split(attention=_attention_adding_identity,
                                                                drops_attention=False),
}


def split_of(block: nn.Module) -> Split | None:
    """The split of a block, found by the class that defines its ``forward``; None for an unknown block."""
    kind = getattr(type(block), '_parts', [type(block)])[-1]  # of a block that positions run: its own class
    owner = next(c for c in kind.__mro__ if 'forward' in vars(c))
    return SPLITS.get(f'{owner.__module__}.{owner.__qualname__}')


def block_owners(backbone: nn.Module) -> dict[str, tuple[nn.Module, str]]:
    """Where the blocks are: dotted name of each list -> (module that owns it, its attribute there).

    Raises:
        TypeError: If the backbone has neither ``layers``, each of them a block, nor ``stages`` with ``blocks``.
    """
    layers = getattr(backbone, 'layers', None)
    if isinstance(layers, nn.Module) and not any(isinstance(layer, nn.ModuleList) for layer in layers):  # those: stages
        return {'layers': (backbone, 'layers')}
    stages = getattr(backbone, 'stages', None)
    if isinstance(stages, nn.ModuleList) and all(hasattr(stage, 'blocks') for stage in stages):
        return {f'stages.{s}.blocks': (stage, 'blocks') for s, stage in enumerate(stages)}
    hint = '. Expand its `backbone`' if isinstance(getattr(backbone, 'backbone', None), nn.Module) else ''
    raise TypeError(f'cannot expand a {type(backbone).__name__}: it keeps its blocks neither in `layers` (as '
                    f'VisionTransformer does) nor in `stages[i].blocks` (as SwinTransformer does){hint}')


def window_period(block: nn.Module) -> int:
    """2 for blocks with shifted windows, whose neighbours must alternate; 1 for others."""
    return 2 if hasattr(getattr(block, 'attn', None), 'shift_size') else 1


def window_shift(block: nn.Module) -> int | None:
    """Shift of the block's window in tokens; None where there are no windows."""
    return getattr(getattr(block, 'attn', None), 'shift_size', None)


def checkpoints_itself(block: nn.Module) -> bool:
    """Whether a block was built with ``with_cp``, in a forward that positions do not call."""
    return split_of(block) is not None and getattr(block, 'with_cp', False)
