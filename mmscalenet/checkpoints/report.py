import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass
class Report:
    """What loading a checkpoint did.

    Attributes:
        source (str): The file and its recognised format.
        loaded (list[str]): Names, in the model, of the tensors that came from the file.
        resized (dict[str, str]): Those of them that were resized -> from what to what.
        newly_initialised (list[str]): Names, in the model, of what the file has nothing for.
        ignored (list[str]): Names, in the file, of what the model has no use for.
        prefix (str): What the names of the backbone start with in the file.
    """
    source: str
    loaded: list[str]
    resized: dict[str, str] = field(default_factory=dict)
    newly_initialised: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    prefix: str = ''

    def __str__(self) -> str:
        resized = Counter(f'{name.rpartition(".")[2]}, {how}' for name, how in self.resized.items())
        lines = {
            'resized': '; '.join(f'{count} {what}' for what, count in resized.items()),
            'newly initialised': summarise(self.newly_initialised),
            'ignored': summarise(self.ignored),
        }
        return '\n'.join([f'checkpoint {self.source}: {len(self.loaded)} tensors loaded',
                          *(f'  {title}: {text}' for title, text in lines.items() if text)])


def summarise(names: Iterable[str], limit: int = 6) -> str:
    """Few words for many names: modules that differ in numbers alone are counted together."""
    names = list(names)
    for parts in (None, 2, 1):
        groups = Counter('.'.join(_without_numbers(name).split('.')[:parts]) for name in names)
        if len(groups) <= limit:
            break
    return ', '.join(f'{group} ({count})' for group, count in groups.items())


def _without_numbers(name: str) -> str:
    """'layers.3.attn.qkv.weight' -> 'layers.*.attn.qkv'."""
    return re.sub(r'(?<=\.)\d+(?=\.|$)', '*', re.sub(r'\.(weight|bias)$', '', name))
