"""Adapters: the small module of its own that keeps every use of a shared block distinct (the paper's delta theta).

The paper calls them "adjustment parameters" and gives neither width nor activation nor initialisation. The width here
is inferred from its one published count (DeiT-Tiny x2: 6.45 M parameters); the rest is ours.
"""
from operator import attrgetter

import torch
import torch.nn as nn
from mmcv.cnn import build_activation_layer
from mmengine.model import BaseModule
from torch import Tensor

from mmscalenet.registry import ADAPTERS


class Adapter(BaseModule):
    """What a position may add to a shared block. A subclass overrides ``forward``, ``weights`` or both.

    Every adapter starts as a no-op, so that the expanded model starts from the weights of the base alone.
    """

    def forward(self, h: Tensor) -> Tensor | None:
        """What to add to the FFN branch; ``h`` is the FFN's own input, (B, N, C). Defaults to nothing."""
        return None

    def weights(self, block: nn.Module) -> dict[str, Tensor]:
        """Tensors that stand in for the block's own, by their name in the block. Defaults to none."""
        return {}

    def fold_into(self, ffn: nn.Module) -> bool:
        """Make ``ffn`` add what :meth:`forward` returns, for deployment, and say whether it does. Defaults to no."""
        return False

    def reset_parameters(self) -> None:
        """Return to the no-op that training starts from."""
        raise NotImplementedError

    def init_weights(self) -> None:
        # mmengine asks the children after the parent's own init_cfg (e.g. TruncNormal on every Linear) has run
        self.reset_parameters()
        self._is_init = True


@ADAPTERS.register_module()
class ParallelAdapter(Adapter):
    """Bottleneck beside the FFN: ``ffn(h) + up(act(down(h)))``.

    It reads the FFN's input and has the FFN's activation, so that it is exactly a wider FFN: ``[W1; down]`` and
    ``[W2, up]``. Parallel adapters: arXiv 2110.04366, 2205.13535; for ScaleNet: arXiv 2510.18431.

    Args:
        block (nn.Module): The shared block of this position.
        embed_dims (int): Channels C of the model at this position.
        ratio (float): Width of the bottleneck over C. Defaults to 5/12: with it DeiT-Tiny x2 has the 6.45 M parameters
            that the paper reports.
        act_cfg (dict): Activation. Defaults to ``dict(type='GELU')``, that of the FFN.
        scale (float): Constant factor of what is added; 0.1 in AdaptFormer, arXiv 2205.13535, section 3.2, and in an
            earlier adapter by ScaleNet's first author. Defaults to 1.
        dropout (float): Dropout between the two matrices in training; 0.1 in the same. Defaults to 0.

    Raises:
        ValueError: If ``ratio`` is not in (0, 1] or gives no channel, ``scale`` is not positive, or ``dropout`` not in
            [0, 1).
    """

    def __init__(self, block: nn.Module, embed_dims: int, ratio: float = 5 / 12,
                 act_cfg: dict = dict(type='GELU'), scale: float = 1., dropout: float = 0.) -> None:
        super().__init__()
        if isinstance(ratio, bool) or not isinstance(ratio, (int, float)) or not 0 < ratio <= 1 \
                or round(ratio * embed_dims) < 1:
            raise ValueError(f'adapter ratio={ratio!r} is not allowed; give a number from 1/{embed_dims}, one '
                             'channel, to 1, as wide as the model')
        if isinstance(scale, bool) or not isinstance(scale, (int, float)) or not 0 < scale < float('inf'):
            raise ValueError(f'adapter scale={scale!r} is not allowed; give a positive number')
        if isinstance(dropout, bool) or not isinstance(dropout, (int, float)) or not 0 <= dropout < 1:
            raise ValueError(f'adapter dropout={dropout!r} is not allowed; give a number in [0, 1)')
        width = round(ratio * embed_dims)
        self.scale = scale
        # without biases: the FFN's own suffice, and folding stays exact
        self.down = nn.Linear(embed_dims, width, bias=False)
        self.act = build_activation_layer(act_cfg)
        self.dropout = nn.Dropout(dropout)
        self.up = nn.Linear(width, embed_dims, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.kaiming_uniform_(self.down.weight, a=5**0.5)
        nn.init.zeros_(self.up.weight)

    def forward(self, h: Tensor) -> Tensor:
        out = self.up(self.dropout(self.act(self.down(h))))
        return out if self.scale == 1 else self.scale * out

    def extra_repr(self) -> str:
        return ', '.join([f'scale={self.scale:g}'] * (self.scale != 1)
                         + [f'dropout={self.dropout.p:g}'] * bool(self.dropout.p))

    def fold_into(self, ffn: nn.Module) -> bool:
        """Widen an FFN of mmcv with the same activation."""
        if (type(self).forward is not ParallelAdapter.forward or getattr(ffn, 'num_fcs', None) != 2
                or not _same_activation(self.act, ffn.layers[0][1])):
            return False
        hidden, out = ffn.layers[0][0], ffn.layers[1]
        if not (is_plain(hidden) and is_plain(out)):
            return False
        scale = getattr(getattr(ffn, 'gamma2', None), 'weight', None)  # of LayerScale, which the adapter goes past
        if scale is not None:
            out.weight.mul_(scale[:, None])
            out.bias.mul_(scale)
            ffn.gamma2 = nn.Identity()
        _extend(hidden, 'weight', self.down.weight)
        _extend(hidden, 'bias', hidden.bias.new_zeros(self.down.out_features))
        _extend(out, 'weight', self.scale * self.up.weight, dim=1)
        ffn.feedforward_channels = hidden.out_features = out.in_features = len(hidden.bias)
        return True


def is_plain(module: nn.Module) -> bool:
    """Whether a module is a linear map of nothing but its weights: in no wrapper, and not parametrized."""
    return isinstance(module, nn.Linear) and module._parameters.get('weight') is not None


def _extend(module: nn.Module, name: str, more: Tensor, dim: int = 0) -> None:
    old = getattr(module, name)
    setattr(module, name, nn.Parameter(torch.cat([old, more], dim), requires_grad=old.requires_grad))


def _same_activation(one: nn.Module, other: nn.Module) -> bool:
    """Of one kind, with equal settings, and nothing learnt."""
    settings = [{key: value for key, value in vars(act).items() if key[0] != '_' and key != 'training'}
                for act in (one, other)]
    return type(one) is type(other) and settings[0] == settings[1] and not [*one.parameters(), *other.parameters()]


@ADAPTERS.register_module()
class LoRA(Adapter):
    """Low-rank update of the block's own matrices: this position runs ``W + (alpha / rank) * B A``.

    arXiv 2106.09685; one per position over shared weights: Relaxed Recursive Transformers, arXiv 2410.20672.

    Args:
        block (nn.Module): The shared block of this position.
        embed_dims (int): Channels C of the model at this position.
        rank (int): Rank of the update. Defaults to 8.
        alpha (float, optional): Numerator of the factor. Defaults to None, which means ``rank``: a factor of 1.

    Raises:
        ValueError: If ``rank`` is not in 1..C or ``alpha`` is not positive.
    """

    def __init__(self, block: nn.Module, embed_dims: int, rank: int = 8, alpha: float | None = None) -> None:
        super().__init__()
        if isinstance(rank, bool) or not isinstance(rank, int) or not 1 <= rank <= embed_dims:
            raise ValueError(f'adapter LoRA: rank={rank!r} is not allowed; give an integer from 1 to the '
                             f'{embed_dims} channels')
        alpha = rank if alpha is None else alpha
        if not isinstance(alpha, (int, float)) or not 0 < alpha < float('inf'):
            raise ValueError(f'adapter LoRA: alpha={alpha!r} is not allowed; give a positive number')
        self.factor = alpha / rank
        self.down = nn.ParameterDict()
        self.up = nn.ParameterDict()
        matrices = self._matrices(block)
        if not matrices:
            raise ValueError(f'adapter LoRA finds no matrix in a {type(block).__name__}, whose layers are '
                             'convolutions; take ParallelAdapter')
        for name, weight in matrices.items():
            key = name.replace('.', '/')  # a parameter name holds no dot
            self.down[key] = nn.Parameter(weight.new_empty(rank, weight.shape[1]))
            self.up[key] = nn.Parameter(weight.new_empty(weight.shape[0], rank))
        self.reset_parameters()

    @staticmethod
    def _matrices(block: nn.Module) -> dict[str, Tensor]:
        """The matrices of attention and FFN; position-bias tables are no matrices of a linear map."""
        return {name: weight for name, weight in block.named_parameters()
                if weight.ndim == 2 and name.endswith('weight')}

    def reset_parameters(self) -> None:
        for down, up in zip(self.down.values(), self.up.values(), strict=True):
            nn.init.kaiming_uniform_(down, a=5**0.5)
            nn.init.zeros_(up)

    def weights(self, block: nn.Module) -> dict[str, Tensor]:
        # got by name: of a block that FSDP has flattened they are no parameters
        return {name: torch.addmm(attrgetter(name)(block), self.up[key], self.down[key], alpha=self.factor)
                for key in self.down for name in [key.replace('/', '.')]}
