from collections.abc import Iterable


class CheckpointError(ValueError):
    """A checkpoint that cannot be read, is not safe to read, or does not fit the model."""


def some(names: Iterable[str], separator: str = ', ', limit: int = 5) -> str:
    """The first distinct names, then how many more there are."""
    names = list(dict.fromkeys(names))
    return (separator.join(one_line(name) for name in names[:limit])
            + (f' and {len(names) - limit} more' if len(names) > limit else ''))


def one_line(text: object, limit: int = 200) -> str:
    """What stands in a file, or an error that quotes it, as part of a message: printable, and of bounded length."""
    text = ' '.join(str(text).split())
    text = text if text.isprintable() else repr(text)[1:-1]
    return text if len(text) <= limit else f'{text[:limit]}...'
