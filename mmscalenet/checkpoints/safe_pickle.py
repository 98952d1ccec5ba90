"""A stand-in for the ``pickle`` module that runs no code of the file: ``torch.load(..., pickle_module=safe_pickle)``.

``torch.load(weights_only=True)`` is as safe but refuses what mmengine's runners save beside the weights, and behaves
differently in each torch release. Here tensors and plain containers are rebuilt, known metadata (numpy's included:
its pickled dtypes can be forged to point anywhere in memory) becomes :class:`Inert`, and every other name in the pickle
is refused before anything is called.
"""
import pickle
from collections import Counter, OrderedDict, defaultdict
from typing import Any, BinaryIO

import torch


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


_REBUILT = {
    **{f'builtins.{t.__name__}': t for t in (bool, bytearray, bytes, complex, dict, float, frozenset, int, list, set,
                                             slice, str, tuple)},
    **{f'collections.{t.__name__}': t for t in (Counter, OrderedDict, defaultdict)},
    **{f'torch._utils.{f.__name__}': f for f in (torch._utils._rebuild_tensor, torch._utils._rebuild_tensor_v2,
                                                 torch._utils._rebuild_parameter)},
    **{str(t): t for t in vars(torch).values() if isinstance(t, torch.dtype)},
    'torch.Size': torch.Size,
    'torch.device': torch.device,
    '_codecs.encode': _encode,
}
_INERT_NAMES = {'builtins.getattr', 'functools.partial', 'types.SimpleNamespace'}
_INERT_PACKAGES = {'addict', 'argparse', 'datetime', 'easydict', 'mmcls', 'mmcv', 'mmdet', 'mmengine', 'mmpretrain',
                   'mmscalenet', 'mmseg', 'numpy', 'omegaconf', 'pathlib', 'yacs'}
_PYTHON2 = {'__builtin__': 'builtins'}  # torch.save writes protocol 2
_WITH_STATE = (OrderedDict, defaultdict, Inert)


class Unpickler(pickle._Unpickler):
    """Rebuilds what ``_REBUILT`` names. The Python unpickler, as in C the BUILD instruction cannot be restricted."""

    dispatch = dict(pickle._Unpickler.dispatch)

    def find_class(self, module: str, name: str) -> Any:
        full_name = f'{_PYTHON2.get(module, module)}.{name}'
        if full_name in _REBUILT:
            return _REBUILT[full_name]
        if full_name in _INERT_NAMES or module.split('.')[0] in _INERT_PACKAGES:
            return Inert
        raise UnsafePickleError(full_name)

    def load_build(self) -> None:
        # BUILD sets attributes: on a class or function it would change this process
        target = self.stack[-2]
        if not isinstance(target, _WITH_STATE):
            raise UnsafePickleError(f'a state for {target!r}')
        super().load_build()

    dispatch[pickle.BUILD[0]] = load_build


def load(file: BinaryIO, **kwargs: Any) -> Any:
    """As ``pickle.load``."""
    return Unpickler(file, **kwargs).load()
