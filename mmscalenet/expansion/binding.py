"""Classes made at run time: a mixin of ours before the class that an object had."""
from functools import cache


class Bound:
    """Base of mixins, whose objects pickle and deepcopy though their class is made at run time."""

    _parts: tuple[type, type]

    def __reduce_ex__(self, protocol: int) -> tuple:
        # as nn.Module has it, without what Module.compile has made: it would run the module that it was made of
        state = {name: value for name, value in self.__dict__.items() if name != '_compiled_call_impl'}
        return _new, self._parts, state


@cache
def bind(mixin: type, parent: type) -> type:
    """The class that puts ``mixin`` before ``parent``; the same one at every call, so that pickles agree."""
    name = f'{mixin.__name__}_{parent.__module__.split(".")[0]}_{parent.__name__}'  # TorchScript wants an identifier
    return type(name, (mixin, parent), {'__module__': mixin.__module__, '_parts': (mixin, parent)})


def _new(mixin: type, parent: type) -> object:
    return object.__new__(bind(mixin, parent))
