"""Blocks: how each kind divides into residual branches, which is what gates, adapters and drop path act on.

A block without an entry still expands, with its adapter beside the whole of it. Classes are named by their full names,
so that no task library has to be imported.
"""
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch.nn as nn
from torch import Tensor


def _plain_attention(attn: Callable, h: Tensor, *args) -> Tensor:
    return attn(h, *args)


def _attention_adding_identity(attn: Callable, h: Tensor, *args) -> Tensor:
    # mmcv's MultiheadAttention adds ``identity`` itself: zero keeps the branch apart, and 0 + x is exact
    return attn(h, *args, identity=h.new_zeros(()))


@dataclass(frozen=True)
class Split:
    """How ``x = x + attn(norm1(x)); x = x + ffn(norm2(x))`` is spelt in one library; positions run it themselves."""
    norm1: str = 'norm1'
    norm2: str = 'norm2'
    attention: Callable[..., Tensor] = _plain_attention
    drops_attention: bool = True  # whether drop path applies to the attention's branch too


@dataclass(frozen=True)
class Branches:
    """Where the branches of a block begin and end, whose own forward runs.

    ::

        x = x + drop_path(attn(norm1(x)))     # every branch ends in one of ``ends``
        x = x + drop_path(mlp(norm2(x)))      # the adapter reads what goes into ``ffn``

    Args:
        ffn (str): The module whose input the adapter reads.
        ends (tuple[str, ...]): The modules that the branches pass last. Defaults to their drop path.
        norms (tuple[str, ...]): The norms that a position may have of its own. Defaults to 'norm1' and 'norm2'.
        turned (bool): Whether ``ffn`` reads maps with the channels last, and the branch ends in maps with the channels
            first. Defaults to False.
    """
    ffn: str
    ends: tuple[str, ...] = ('drop_path', )
    norms: tuple[str, ...] = ('norm1', 'norm2')
    turned: bool = False


OF_MMCV = Branches('ffn', ends=('attn.dropout_layer', 'ffn.dropout_layer'))
OF_MMPRETRAIN = Branches('ffn', ends=('attn.out_drop', 'ffn.dropout_layer'), norms=('ln1', 'ln2'))
OF_CONVNEXT = Branches('pointwise_conv1', norms=('norm', ), turned=True)

#: The class whose ``forward`` runs the block -> how that forward divides.
BLOCKS: dict[str, Split | Branches] = {
    'mmpretrain.models.backbones.vision_transformer.TransformerEncoderLayer': Split('ln1', 'ln2'),
    'mmpretrain.models.backbones.swin_transformer.SwinBlock': Split(),
    'mmdet.models.backbones.swin.SwinBlock': Split(),
    'mmseg.models.backbones.swin.SwinBlock': Split(),
    'mmseg.models.backbones.vit.TransformerEncoderLayer': Split(attention=_attention_adding_identity,
                                                                drops_attention=False),
    # a norm after each branch, which would undo what acts before it
    'mmpretrain.models.backbones.swin_transformer_v2.SwinBlockV2': Branches('ffn', ends=('norm1', 'norm2')),
    'mmpretrain.models.backbones.beit.BEiTTransformerEncoderLayer': Branches('ffn', norms=('ln1', 'ln2')),
    'mmseg.models.backbones.beit.BEiTTransformerEncoderLayer': Branches('ffn'),
    'mmpretrain.models.backbones.vit_eva02.EVA02EndcoderLayer': Branches('mlp'),
    # its forward takes ln1 for both branches
    'mmpretrain.models.backbones.deit3.DeiT3TransformerEncoderLayer': replace(OF_MMPRETRAIN, norms=('ln1', )),
    'mmpretrain.models.backbones.t2t_vit.T2TTransformerLayer': OF_MMPRETRAIN,
    'mmpretrain.models.backbones.xcit.XCABlock': Branches('ffn', norms=('norm1', 'norm2', 'norm3')),
    'mmpretrain.models.backbones.hivit.BlockWithRPE': Branches('mlp'),
    'mmpretrain.models.backbones.mvit.MultiScaleBlock': Branches('mlp'),
    'mmpretrain.models.backbones.twins.GSAEncoderLayer': Branches('ffn'),
    'mmpretrain.models.backbones.twins.LSAEncoderLayer': Branches('ffn'),
    'mmseg.models.backbones.twins.GSAEncoderLayer': Branches('ffn'),
    'mmseg.models.backbones.twins.LSAEncoderLayer': Branches('ffn'),
    'mmseg.models.backbones.mit.TransformerEncoderLayer': OF_MMCV,
    'mmdet.models.backbones.pvt.PVTEncoderLayer': OF_MMCV,
    'mmpretrain.models.backbones.convnext.ConvNeXtBlock': OF_CONVNEXT,
    # adapters have no biases, and so leave the masked places empty
    'mmpretrain.models.backbones.sparse_convnext.SparseConvNeXtBlock': OF_CONVNEXT,
    'mmpretrain.models.backbones.hornet.HorNetBlock': Branches('pwconv1', turned=True),
    'mmpretrain.models.backbones.poolformer.PoolFormerBlock': Branches('mlp'),
    'mmseg.models.backbones.mscan.MSCABlock': Branches('mlp'),
}


def kind_of(block: nn.Module) -> Split | Branches | None:
    """How a block divides, by the class that defines its ``forward``; None for an unknown block."""
    own = getattr(type(block), '_parts', [type(block)])[-1]  # of a block that positions run: its own class
    owner = next(c for c in own.__mro__ if 'forward' in vars(c))
    if getattr(block, 'extra_norm', False):  # of a large Swin V2, after the sum: no branch that could be closed
        return None
    return BLOCKS.get(f'{owner.__module__}.{owner.__qualname__}')


def norms_of(block: nn.Module) -> list[str]:
    """Names of the norms in a block that a position may have of its own; none where the block is unknown."""
    kind = kind_of(block)
    names = (kind.norm1, kind.norm2) if isinstance(kind, Split) else kind.norms if kind else ()
    return [name for name in names if getattr(block, name, None) is not None]


def batch_norms_of(block: nn.Module) -> list[str]:
    """Names of the batch norms in a block, whose statistics are those of one use."""
    return [name for name, module in block.named_modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


def reader_of(block: nn.Module) -> nn.Linear | nn.Conv2d | None:
    """What first reads what the adapter reads, for its channels and their place; None for an unknown block."""
    kind = kind_of(block)
    if not isinstance(kind, Branches):
        return None
    return next(module for module in block.get_submodule(kind.ffn).modules()
                if isinstance(module, (nn.Linear, nn.Conv2d)))


def width_of(block: nn.Module) -> int | None:
    """Channels of what the adapter reads and gives; None where that is not known."""
    reader = reader_of(block)
    if reader is not None:
        return reader.in_features if isinstance(reader, nn.Linear) else reader.in_channels
    norm = next((module for module in block.modules() if isinstance(module, nn.LayerNorm)), None)
    return None if norm is None else norm.normalized_shape[-1]


def checkpoints_itself(block: nn.Module) -> bool:
    """Whether a block was built with ``with_cp``. Its position does that then, as it knows which use is recomputed."""
    return bool(getattr(block, 'with_cp', False))
