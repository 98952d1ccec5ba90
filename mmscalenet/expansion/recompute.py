"""Less kept for the backward pass: what norms and activations give is computed again where it is cheap.

A linear layer keeps its input. Behind a norm or an activation that is a second copy of what the norm or the activation
keeps itself: of an FFN's 4 C and 4 C numbers a token, and of a norm's C and C, one half each can go. Under mixed
precision goes what is in float32 and was in 16 bits just before: the sum of a block's input and its attention, and what
a norm reads. As in "activation checkpointing" (arXiv 1604.06174), but of single functions, so that no matrix product
runs twice.
"""
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn as nn
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call

#: The value of ``with_cp`` that asks for this.
LIGHT = 'light'
NORMS = (nn.LayerNorm, nn.GroupNorm)
#: Activations by any name under which a config may ask for them.
ACTIVATIONS = (nn.GELU, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SiLU, nn.Hardswish, nn.Sigmoid, nn.Tanh)


class InputOfLinear(nn.Module):
    """Under mixed precision what a linear layer would turn its input into; else the input as it is.

    A module, so that the copy is found, and made again from what is kept anyway.
    """

    def forward(self, x: Tensor) -> Tensor:
        dtype = _autocast_dtype(x.device.type)
        return x if dtype is None or x.dtype is not torch.float32 else x.to(dtype)


class Sum(nn.Module):
    """What a branch is added to, and the branch.

    A module, so that the sum is found: under mixed precision the branch takes half its bytes, and is kept in its place.
    """

    def forward(self, x: Tensor, branch: Tensor) -> Tensor:
        return x + branch


class Widened(nn.Module):
    """What a norm reads under mixed precision, where it is given 16 bits."""

    def forward(self, x: Tensor) -> Tensor:
        return x.float()


def is_cheap(module: nn.Module) -> bool:
    """Whether it is a norm, an activation, a sum or a mere copy: little work for a number, and nothing random."""
    return isinstance(module, (*NORMS, *ACTIVATIONS, InputOfLinear, Sum)) or getattr(
        module, 'only_moves', False)


class _Recipe(NamedTuple):
    """How to make a tensor again; in the place of that tensor."""
    module: nn.Module
    tensors: dict[str, Tensor]
    source: 'Tensor | _Recipe'
    version: int | None
    rest: tuple
    options: dict
    autocast: torch.dtype | None
    shape: torch.Size

    def __call__(self) -> Tensor:
        source = self.source if isinstance(self.source, Tensor) else self.source()
        if isinstance(self.source, Tensor) and source._version != self.version:
            raise RuntimeError(f"with_cp='{LIGHT}' cannot make again what {type(self.module).__name__} gave: its input "
                               'has been changed in place since. Take with_cp=True or False.')
        mixed = dict(dtype=self.autocast, enabled=self.autocast is not None, cache_enabled=False)
        with torch.no_grad(), torch.autocast(source.device.type, **mixed):
            out = functional_call(self.module, self.tensors, (source, *self.rest), self.options)
        return out.reshape(self.shape)


@contextmanager
def cheap_recomputed(*parts: nn.Module) -> Iterator[None]:
    """Within, what norms and activations in ``parts`` give is not kept for the backward pass, which makes it again.

    Gradients are the same bit by bit.
    """
    # address -> what is there, its version, which a change in place raises, and how to make it again
    given: dict[int, tuple[weakref.ref, int, _Recipe]] = {}
    read: list[Tensor] = []  # by the norm that runs

    def begin(norm: nn.Module, inputs: tuple) -> None:
        read.append(inputs[0].detach())

    def note(module: nn.Module, inputs: tuple, options: dict, output: Tensor) -> None:
        read.clear()
        if isinstance(module, Sum) and inputs[1].element_size() == output.element_size():
            return  # nothing saved
        if output.requires_grad and output is not inputs[0]:
            # with the tensors it has at this moment: an adapter may have put others in the place of the block's
            first, *rest = (value.detach() if isinstance(value, Tensor) else value for value in inputs)
            recipe = _Recipe(module, dict(module.named_parameters()), known(first), first._version, tuple(rest),
                             options, _autocast_dtype(output.device.type), output.shape)
            given[output.data_ptr()] = weakref.ref(output), output._version, recipe

    def known(tensor: Tensor) -> Tensor | _Recipe:
        reference, version, recipe = given.get(tensor.data_ptr(), (None, 0, None))
        origin = None if reference is None else reference()
        if origin is None or origin._version != version or not _holds_the_same(origin, tensor):
            return tensor
        return recipe._replace(shape=tensor.shape)

    def pack(tensor: Tensor) -> Tensor | _Recipe:
        if read and tensor.element_size() > read[0].element_size() and tensor.shape == read[0].shape \
                and tensor.stride() == read[0].stride():
            return _Recipe(Widened(), {}, known(read[0]), read[0]._version, (), {}, None, tensor.shape)
        return known(tensor)

    def unpack(kept: Tensor | _Recipe) -> Tensor:
        return kept if isinstance(kept, Tensor) else kept()

    modules = {module for part in parts for module in part.modules() if is_cheap(module)}
    # before any other hook, which may turn an output into another
    handles = [module.register_forward_hook(note, with_kwargs=True, prepend=True) for module in modules]
    handles += [module.register_forward_pre_hook(begin) for module in modules
                if type(module) in NORMS]  # others may read it transposed
    try:
        with saved_tensors_hooks(pack, unpack):
            yield
    finally:
        for handle in handles:
            handle.remove()


def _holds_the_same(one: Tensor, two: Tensor) -> bool:
    """Whether two tensors are one, but for its shape."""
    return (one.data_ptr(), one.numel(), one.dtype) == (two.data_ptr(), two.numel(), two.dtype) \
        and one.is_contiguous() and two.is_contiguous()


def _autocast_dtype(device: str) -> torch.dtype | None:
    """What mixed precision turns the inputs of linear layers into here; None where there is none."""
    if hasattr(torch, 'get_autocast_dtype'):
        return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    if device == 'cpu':  # torch before 2.4
        return torch.get_autocast_cpu_dtype() if torch.is_autocast_cpu_enabled() else None
    return torch.get_autocast_gpu_dtype() if torch.is_autocast_enabled() else None
