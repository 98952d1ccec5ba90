from collections.abc import Callable, Mapping
from re import Match, sub

from torch import Tensor

#: Patterns and what to put in their place, one after the other.
Rules = tuple[tuple[str, str | Callable[[Match], str]], ...]


def rename(state: Mapping[str, Tensor], rules: Rules) -> dict[str, Tensor]:
    result = {}
    for name, tensor in state.items():
        for pattern, replacement in rules:
            name = sub(pattern, replacement, name)
        result[name] = tensor
    return result


def without_wrappers(name: str) -> str:
    """A tensor's name without what DistributedDataParallel and torch.compile put in front."""
    return sub(r'^((module|_orig_mod)\.)+', '', name)
