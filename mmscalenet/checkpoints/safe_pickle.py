"""A stand-in for the ``pickle`` module that runs no code of the file: ``torch.load(..., pickle_module=within(size))``.

``torch.load(weights_only=True)`` is as safe but refuses what mmengine's runners save beside the weights, and behaves
differently in each torch release. Here tensors, plain containers, arrays of numbers and mmengine's log buffers are
rebuilt, other known metadata becomes :class:`Inert`, and every other name in the pickle is refused before anything is
called. Nothing gets more memory than the file has bytes.
"""
import pickle
import re
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, BinaryIO

import numpy as np
import torch
from mmengine.logging import HistoryBuffer


class UnsafePickleError(pickle.UnpicklingError):
    """The pickle names something outside the list below."""


class Inert:
    """Takes the place of a metadata object (a config, an array, a path); keeps nothing and does nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def _ignore(self, *args: Any, **kwargs: Any) -> 'Inert':
        return self

    __call__ = __setstate__ = __setitem__ = append = extend = _ignore


def _encode(text: str, encoding: str) -> bytes:
    return str.encode(text, encoding)  # not codecs.encode, which also knows compressors


def _dtype(name: str, *_: Any) -> np.dtype | Inert:
    return np.dtype(name) if re.fullmatch(r'b1|[iufc]\d{1,2}', name) else Inert()


def _text(kind: type) -> Callable:
    def rebuild(*args: Any) -> str | bytes | bytearray:
        # a size makes room, and the text of lists that hold each other grows with every level
        if any(not isinstance(arg, (str, bytes, bytearray)) for arg in args):
            raise pickle.UnpicklingError(f'{kind.__name__} of a size and no content')
        return kind(*args)

    return rebuild


def _empty_array(*_: Any) -> np.ndarray:
    return np.empty(0, np.int8)


def _scalar(dtype: np.dtype | Inert, data: bytes = b'') -> Any:
    return np.ndarray((), dtype, data)[()] if isinstance(dtype, np.dtype) else Inert()


def _fill(array: np.ndarray, state: tuple) -> None:
    """What ``array.__setstate__(state)`` does, but with the sizes checked, and for numbers only."""
    _, shape, dtype, is_fortran, data = state
    if isinstance(dtype, np.dtype) and all(side >= 0 for side in shape):
        values = np.ndarray(shape, dtype, data, order='F' if is_fortran else 'C')
        array.__setstate__(values.__reduce__()[2])


def _tensor_class(*_: Any) -> None:
    """Stands for the class of tensors, which is named and not called."""
    raise pickle.UnpicklingError('a tensor of a size and no content')


def _without_marks(rebuild: Callable, kind: Callable, args: tuple, state: Any) -> torch.Tensor:
    """A tensor without the attributes that it was saved with: a compiled step of an optimizer leaves some."""
    if rebuild not in _TENSORS or kind is not _tensor_class:
        raise UnsafePickleError(f'{rebuild!r} for {kind!r}')
    return rebuild(*args)


_TENSORS = (torch._utils._rebuild_tensor, torch._utils._rebuild_tensor_v2, torch._utils._rebuild_parameter)
_REBUILT = {
    **{f'builtins.{t.__name__}': t for t in (bool, complex, dict, float, frozenset, int, list, set, slice, tuple)},
    **{f'builtins.{t.__name__}': _text(t) for t in (bytearray, bytes, str)},
    **{f'collections.{t.__name__}': t for t in (Counter, OrderedDict, defaultdict)},
    **{f'torch._utils.{f.__name__}': f for f in _TENSORS},
    'torch._tensor._rebuild_from_type_v2': _without_marks,
    'torch._utils._rebuild_parameter_with_state': lambda *args: torch._utils._rebuild_parameter(*args[:3]),
    'torch.Tensor': _tensor_class,
    'torch.nn.parameter.Parameter': _tensor_class,
    **{str(t): t for t in vars(torch).values() if isinstance(t, torch.dtype)},
    'torch.Size': torch.Size,
    'torch.device': torch.device,
    '_codecs.encode': _encode,
    'mmengine.logging.history_buffer.HistoryBuffer': HistoryBuffer,
    'numpy.dtype': _dtype,
    **{f'numpy.{core}.multiarray._reconstruct': _empty_array for core in ('core', '_core')},
    **{f'numpy.{core}.multiarray.scalar': _scalar for core in ('core', '_core')},
}
_INERT_NAMES = {'builtins.getattr', 'functools.partial', 'types.SimpleNamespace'}
_INERT_PACKAGES = {'addict', 'argparse', 'datetime', 'easydict', 'mmcls', 'mmcv', 'mmdet', 'mmengine', 'mmpretrain',
                   'mmscalenet', 'mmseg', 'numpy', 'omegaconf', 'pathlib', 'yacs'}
_PYTHON2 = {'__builtin__': 'builtins'}  # torch.save writes protocol 2
_WITH_STATE = (OrderedDict, defaultdict, Inert)


class Unpickler(pickle._Unpickler):
    """Rebuilds what ``_REBUILT`` names. The Python unpickler, as in C the BUILD instruction cannot be restricted."""

    dispatch = dict(pickle._Unpickler.dispatch)
    #: Bytes that all storages together, or one tensor, may have.
    limit = float('inf')

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._storages: set[Any] = set()
        self._claimed = 0

    def find_class(self, module: str, name: str) -> Any:
        full_name = f'{_PYTHON2.get(module, module)}.{name}'
        if full_name in _REBUILT:
            return _REBUILT[full_name]
        if full_name in _INERT_NAMES or module.split('.')[0] in _INERT_PACKAGES:
            return Inert
        raise UnsafePickleError(full_name)

    def load_build(self) -> None:
        # BUILD sets attributes: on a class or function it would change this process
        target, state = self.stack[-2:]
        if isinstance(target, np.ndarray):
            _fill(target, self.stack.pop())
        elif isinstance(target, HistoryBuffer):
            # its state also holds functions, which would replace those of the class
            self.stack[-1] = {name: state[name] for name in ('max_length', '_log_history', '_count_history')}
            super().load_build()
        elif isinstance(target, np.dtype) and state[1] in '<|':
            # a dtype's own __setstate__ can be made to point anywhere in memory; a dtype of numbers has no more to it
            self.stack.pop()
        elif isinstance(target, _WITH_STATE):
            super().load_build()
        else:
            raise UnsafePickleError(f'a state for {target!r}')

    dispatch[pickle.BUILD[0]] = load_build

    def load_binpersid(self) -> None:
        # torch makes room for a storage before it reads it
        match self.stack[-1]:
            case ('storage', kind, key, _, int(numbers), *_):
                size = numbers * torch._utils._element_size(getattr(kind, 'dtype', None) or torch.uint8)
                self._claimed += 0 if key in self._storages else size
                self._storages.add(key)
                if size < 0 or self._claimed > self.limit:
                    raise pickle.UnpicklingError('its tensors have more numbers than the file has bytes')
        super().load_binpersid()

    def load_reduce(self) -> None:
        super().load_reduce()
        self._check_size()

    def _instantiate(self, *args: Any) -> None:  # of the instructions INST and OBJ
        super()._instantiate(*args)
        self._check_size()

    def _check_size(self) -> None:
        # a view may repeat what it shows without end
        made = self.stack[-1]
        if isinstance(made, torch.Tensor) and made.numel() * made.element_size() > self.limit:
            raise pickle.UnpicklingError(f'a tensor of shape {tuple(made.shape)} in a smaller file')

    dispatch[pickle.BINPERSID[0]] = load_binpersid
    dispatch[pickle.REDUCE[0]] = load_reduce


def within(size: int) -> SimpleNamespace:
    """A stand-in for ``pickle`` for a file of ``size`` bytes."""
    limited = type('Unpickler', (Unpickler, ), dict(limit=size))

    def load(file: BinaryIO, **kwargs: Any) -> Any:
        return limited(file, **kwargs).load()

    return SimpleNamespace(Unpickler=limited, load=load, __name__=__name__)
