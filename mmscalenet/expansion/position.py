"""A position: one place in the expanded depth, and all that it does not share."""
import copy
import operator
import threading
from collections.abc import Callable, Sequence
from functools import partial
from types import MethodType
from weakref import WeakSet

import torch
import torch.nn as nn
from mmcv.cnn.bricks import DropPath
from mmengine.model import BaseModule
from torch import Tensor
from torch.func import functional_call
from torch.nn.utils.stateless import _reparametrize_module
from torch.utils.checkpoint import checkpoint

from .adapters import Adapter
from .blocks import Branches, Split, kind_of
from .compiling import is_compiling
from .recompute import LIGHT, InputOfLinear, Sum, cheap_recomputed

#: Held by a thread while it has a position's tensors in the place of a block's, or the block knows of its position.
_BORROWED = threading.RLock()
#: Blocks of which it is known that no part of them is recomputed by itself.
_CHECKED: WeakSet[nn.Module] = WeakSet()


class Position(BaseModule):
    """Runs a shared block in its own way, and shows what the block has: ``layers[-1].attn``.

    ::

        x = x + drop(gate[0] * attn(norm1(x)))      # mmseg's ViT: not dropped, as in the parent
        h = norm2(x)
        x = x + drop(gate[1] * ffn(h) + adapter(h))

    Args:
        block (nn.Module): The block this position runs. Not registered here: it is looked up at every call in the list
            that has taken the position, as tools put wrappers in the place of blocks.
        adapter (Adapter, optional): The position's adapter. Defaults to None.
        gate (float, optional): Start value of the learnt factors of the two branches, (2,). Defaults to None.
        divide (bool): Whether the factors are divided by the number of positions that run this block, and left out
            where it is one. Defaults to False.
        inject (bool): Whether the position has a learnt factor, (1,), with which the input of the core is added to its
            own (see :mod:`~mmscalenet.expansion.core`). Defaults to False.
        own_norms (Sequence[str]): Names of the block's norms of which the position has copies of its own. Defaults to
            none.
        drop_path (float): Probability to drop a branch of a sample in training. Defaults to 0.
        with_cp (bool | str): Recompute the position in the backward pass instead of storing it; 'light': its norms and
            activations alone. Defaults to False.
    """

    def __init__(self, block: nn.Module, adapter: Adapter | None = None, gate: float | None = None,
                 divide: bool = False, inject: bool = False, own_norms: Sequence[str] = (), drop_path: float = 0.,
                 with_cp: bool | str = False) -> None:
        super().__init__()
        #: The list of positions and the name of the block in it, in a tuple, which registers no module.
        self.place: tuple[nn.Module, str] | None = None
        self.kind: Split | Branches | None = kind_of(block)
        self.with_cp = with_cp
        self.copied = InputOfLinear() if with_cp == LIGHT else _unchanged
        self.sum = Sum() if with_cp == LIGHT else operator.add
        self.drop_path = DropPath(drop_path)
        self.adapter = adapter
        #: Given the attention, its input and its own ``hw_shape``, runs the one on the other, e.g. within windows.
        self.around_attention: nn.Module | None = None
        self.gate_init = gate
        if gate is not None:
            self.gate = nn.Parameter(torch.full((2, ), float(gate)))
        else:
            self.register_parameter('gate', None)
        self.divide = divide
        #: Positions that run the block at the present depth of the net; told by the list of positions.
        self.uses = 1
        self.register_parameter('inject', nn.Parameter(torch.zeros(1)) if inject else None)
        #: The position's name of a norm of its own -> the block's.
        self.norm_names: dict[str, str] = {}
        #: The same with the name in a state dict of the block: the ``norm1`` of mmseg's ViT is a property, of ``ln1``.
        self.saved_norms: dict[str, str] = {}
        for name in own_norms:
            shared = block.get_submodule(name)
            # trained even where the block's are frozen: that is for ``apply_freezing`` to say
            own = self._add_norm(name, copy.deepcopy(shared).requires_grad_(True))
            self.norm_names[own] = name
            self.saved_norms[own] = next(saved for saved, module in block.named_modules() if module is shared)

    def _add_norm(self, name: str, norm: nn.Module) -> str:
        if isinstance(self.kind, Split):
            own = 'norm1' if name == self.kind.norm1 else 'norm2'
            setattr(self, own, norm)
        else:
            own = f'norms.{name.replace(".", "/")}'
            if not hasattr(self, 'norms'):
                self.norms = nn.ModuleDict()
            self.norms[name.replace('.', '/')] = norm
        return own

    def reset_parameters(self) -> None:
        """Adapter and factors back to their start; own norms are kept (see :meth:`PositionList.sync_norms`)."""
        if self.adapter is not None:
            self.adapter.reset_parameters()
        if self.gate is not None:
            nn.init.constant_(self.gate, self.gate_init)
        if self.inject is not None:
            nn.init.zeros_(self.inject)

    def factors(self) -> Tensor | None:
        """What the attention's and the FFN's branch are multiplied with, (2,); None where they are not."""
        if not self.divide:
            return self.gate
        return self.gate / self.uses if self.uses > 1 else None  # a block that runs once takes no sub-steps

    def own_norms(self) -> dict[str, nn.Module]:
        """The norms that are not the block's, by the block's name for them."""
        return {name: self.get_submodule(own) for own, name in self.norm_names.items()}

    def fold_norms(self, block: nn.Module) -> None:
        """Move them into a block that is the position's alone."""
        for name, norm in self.own_norms().items():
            block.get_submodule(name).load_state_dict(norm.state_dict())
        for own in {own.partition('.')[0] for own in self.norm_names}:
            delattr(self, own)
        self.norm_names, self.saved_norms = {}, {}

    @property
    def block(self) -> nn.Module:
        """The block that the position runs, with whatever wrapper it has by now."""
        blocks, name = self.place
        return blocks.get_submodule(name)

    def __getattr__(self, name: str) -> object:
        """What the position has itself, then what its block has."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith('_') or self.__dict__.get('place') is None:
                raise
        if name in self.norm_names.values():
            return self.own_norms()[name]
        value = getattr(self.block, name)
        if isinstance(value, MethodType):  # it would run the block without what the position owns
            raise AttributeError(f'{name} is a method of the block; take position.block.{name}')
        return value

    def __setattr__(self, name: str, value: object) -> None:
        """As a module's, but what runs in the block cannot be replaced here.

        Raises:
            AttributeError: If the name is that of a part of the block, or of a norm that stands in its place.
        """
        own = (self.__dict__, *(self.__dict__.get(kind, ()) for kind in ('_parameters', '_buffers', '_modules')))
        # other values may be set on all modules of a net, as torch's quantization does
        if not any(name in names for names in own) and isinstance(getattr(self, name, None), (nn.Module, Tensor)):
            place = next((own for own, theirs in self.norm_names.items() if theirs == name), f'block.{name}')
            raise AttributeError(f'a position only shows {name}; set it where it is: position.{place} = ...')
        super().__setattr__(name, value)

    def forward(self, x: Tensor, *args, **kwargs) -> Tensor:
        """Run the block on ``x`` (B, N, C); the rest is what the parent gives its blocks (Swin: ``hw_shape``)."""
        if self.around_attention is not None and not args:  # called by itself: not by a loop over the list
            args = (self.around_attention.hw_shape, )
        return self.block(x, *args, position=self, **kwargs)

    def run(self, block: nn.Module, x: Tensor, *args, **kwargs) -> Tensor:
        """What ``block`` computes when this position calls it.

        Raises:
            RuntimeError: If a part of the block is checkpointed by itself and could not be recomputed as it ran.
        """
        ways = {Split: self._run, Branches: self._run_branches, type(None): self._run_whole}
        way = ways[type(self.kind)]
        if self._borrows() and not is_compiling():
            if torch.is_grad_enabled() and block not in _CHECKED:
                _refuse_recomputed_parts(block)
                _CHECKED.add(block)  # once, as it takes longer than some positions: tools wrap before they train
            way = partial(_one_thread_at_a_time, way)
        # the factors from outside, as the net may have another depth when the position is recomputed
        run = partial(way, self.factors())
        if self.with_cp == LIGHT and torch.is_grad_enabled() and not is_compiling():
            # a compiler decides by itself what to compute again
            with cheap_recomputed(block, self):
                return run(block, x, *args, **kwargs)
        if self.with_cp is True and torch.is_grad_enabled():
            # the reentrant kind fails under DDP once a block is used twice
            return checkpoint(run, block, x, *args, use_reentrant=False, **kwargs)
        return run(block, x, *args, **kwargs)

    def _borrows(self) -> bool:
        """Whether it runs by a change of the shared block, which it takes back afterwards."""
        replaces = self.adapter is not None and type(self.adapter).weights is not Adapter.weights
        return replaces or not isinstance(self.kind, Split)

    def _run(self, factors: Tensor | None, block: nn.Module, x: Tensor, *args) -> Tensor:
        split, adapter = self.kind, self.adapter
        attn, ffn = block.attn, block.ffn
        if adapter is not None and (weights := adapter.weights(block)):
            attn, ffn = _Rebound(attn, 'attn.', weights), _Rebound(ffn, 'ffn.', weights)
        own = self.own_norms()
        norm1, norm2 = (own.get(name) or getattr(block, name) for name in (split.norm1, split.norm2))
        attention = partial(split.attention, attn)
        if self.around_attention is not None:
            attention = partial(self.around_attention, attention)
        h = norm1(x)
        # mmseg's ViT, which does not drop, projects three copies of its input
        out = attention(self.copied(h) if split.drops_attention else h, *args)
        out = out if factors is None else factors[0] * out
        x = self.sum(x, self.drop_path(out) if split.drops_attention else out)
        h = norm2(x)
        out = ffn(self.copied(h))
        if factors is not None:
            out = factors[1] * out
        extra = None if adapter is None else adapter(self.copied(h))
        return x + self.drop_path(out if extra is None else out + extra)

    def _run_branches(self, factors: Tensor | None, block: nn.Module, x: Tensor, *args, **kwargs) -> Tensor:
        """For a block that computes as its library says, and is met where its branches begin and end."""
        # the batch norms of a frozen base are in eval mode, those that an added position owns are not
        in_other_mode = [norm for name, own in self.own_norms().items()
                         if (norm := block.get_submodule(name)).training != own.training]
        _turn_mode(in_other_mode)
        block.visit.begin(self, factors)
        try:
            return self._with_own_tensors(block)(x, *args, **kwargs)
        finally:
            block.visit.end()
            _turn_mode(in_other_mode)

    def _run_whole(self, factors: Tensor | None, block: nn.Module, x: Tensor, *args, **kwargs) -> Tensor:
        """For a block whose inside is not known: the adapter stands beside the whole of it."""
        out = self._run_branches(None, block, x, *args, **kwargs)
        extra = None if self.adapter is None else self.adapter(x)
        if extra is not None and block.visit.drops:  # its branches have been dropped by then
            extra = self.drop_path(extra)
        drops = self.training and self.drop_path.drop_prob and not block.visit.drops
        if factors is not None or drops:  # else exact, as x + (out - x) is not
            out = out - x if factors is None else factors[0] * (out - x)
            out = out if extra is None else out + extra
            return x + (self.drop_path(out) if drops else out)
        return out if extra is None else out + extra

    def _with_own_tensors(self, block: nn.Module) -> Callable:
        """The parent's forward of a block, with what the adapter and own norms put in the place of its tensors."""
        tensors = {} if self.adapter is None else self.adapter.weights(block)
        for name, norm in self.own_norms().items():
            tensors |= {f'{name}.{key}': tensor for key, tensor in [*norm.named_parameters(), *norm.named_buffers()]}
        if not tensors:
            return block.run_alone
        return _Rebound(block.visit.alone, '', {f'block.{name}': tensor for name, tensor in tensors.items()})


def _unchanged(x: Tensor) -> Tensor:
    return x


def _one_thread_at_a_time(run: Callable, *args, **kwargs) -> Tensor:
    with _BORROWED:
        return run(*args, **kwargs)


def _refuse_recomputed_parts(block: nn.Module) -> None:
    """The block knows its position, and has its tensors, only while it runs; a part alone is recomputed after that."""
    for name, module in block.named_modules():
        forward = vars(module).get('forward')  # set on the module itself, as by mmengine's activation_checkpointing
        recomputes = 'checkpoint' in getattr(getattr(forward, '__code__', None), 'co_names', ())
        if module is not block and (recomputes or '_checkpoint_wrapped_module' in module._modules):
            raise RuntimeError(f'{name} of a {type(block).__name__} is checkpointed by itself, and would be recomputed '
                               'without what its position adds; checkpoint the whole block, or take with_cp')


def _turn_mode(modules: list[nn.Module]) -> None:
    for module in modules:
        module.training = not module.training


class _Rebound:
    """A module called with some of its tensors replaced."""

    def __init__(self, module: nn.Module, prefix: str, weights: dict[str, Tensor]) -> None:
        self.module = module
        self.weights = {name[len(prefix):]: w for name, w in weights.items() if name.startswith(prefix)}

    def __call__(self, *args, **kwargs) -> Tensor:
        for name in self.weights:
            owner, _, leaf = name.rpartition('.')
            part = self.module.get_submodule(owner)
            if leaf in part._parameters and leaf in part.__dict__:  # the latter is read, the former replaced
                raise RuntimeError(f'FSDP with use_orig_params=True keeps {name} where an adapter cannot replace it; '
                                   'take use_orig_params=False, or fully_shard')
        if torch.jit.is_tracing():  # which functional_call refuses, and libraries count multiply-adds with
            with _reparametrize_module(self.module, self.weights):
                return self.module(*args, **kwargs)
        return functional_call(self.module, self.weights, args, kwargs)

