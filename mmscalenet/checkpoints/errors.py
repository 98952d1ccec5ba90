from collections.abc import Iterable


class CheckpointError(ValueError):
    """A checkpoint that cannot be read, is not safe to read, or does not fit the model."""


def some(names: Iterable[str], separator: str = ', ', limit: int = 5) -> str:
    """The first distinct names, then how many more there are."""
    names = list(dict.fromkeys(names))
    return separator.join(names[:limit]) + (f' and {len(names) - limit} more' if len(names) > limit else '')
