"""The budgets of plan_expansion.py: what the user writes, and whether a net stays within."""
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from plan_candidates import Candidate
from plan_costs import Figures

from mmscalenet.engine import UsageError

#: Name of the budget -> units and what they stand for, and how the budget is written.
UNITS: dict[str, tuple[dict[str, float], str]] = {
    'params': ({'': 1, 'k': 1e3, 'm': 1e6, 'b': 1e9}, 'parameters with K, M, B or nothing, e.g. 30M'),
    'gflops': ({'': 1e9}, 'multiply-adds of one image over 1e9 without a unit, e.g. 250'),
    'memory': ({unit: size for letter, size in (('m', 2**20), ('g', 2**30)) for unit in (letter, f'{letter}ib')},
               'MiB or GiB with M or G, e.g. 20G'),
    'latency': ({'': 1e-3, 'ms': 1e-3, 's': 1}, 'milliseconds with ms or nothing, or seconds with s, e.g. 80ms'),
}


def parse_budget(name: str, text: str) -> float:
    """Parameters, multiply-adds, bytes or seconds.

    Raises:
        UsageError: If ``text`` is no number above 0 with an allowed unit.
    """
    units, example = UNITS[name]
    match = re.fullmatch(r'(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*([a-z]*)', text.strip().lower())
    if match is None or match[3] not in units or not 0 < float(match[1] + (match[2] or '')) < float('inf'):
        raise UsageError(f'--{name} {text} is not allowed: give a number above 0, {example}.')
    return float(match[1] + (match[2] or '')) * units[match[3]]


def number(value: float) -> str:
    """Four digits, or all before the point."""
    return f'{value:.0f}' if value >= 1000 else f'{value:.4g}'


def amount(name: str, value: float) -> str:
    """A value of a budget for people."""
    unit, size = {
        'params': ('M parameters', 1e6),
        'gflops': ('G multiply-adds', 1e9),
        'memory': ('GiB of memory', 2**30) if value >= 2**30 else ('MiB of memory', 2**20),
        'latency': ('ms of latency', 1e-3),
    }[name]
    return f'{number(value / size)} {unit}'


@dataclass
class Row:
    """One size of net: a depth and a width of adapters. Its maps cost the same.

    Attributes:
        figures (Figures): What it costs.
        candidates (list[Candidate]): The expansions of this size.
        batch (int): Images in a training step.
        limits (Mapping[str, float]): The budgets.
        latency (float, optional): Measured seconds; None: only their estimate is known.
    """
    figures: Figures
    candidates: list[Candidate]
    batch: int
    limits: Mapping[str, float] = field(default_factory=dict)
    latency: float | None = None

    @property
    def depth(self) -> int:
        return sum(self.figures.positions)

    @property
    def rank(self) -> tuple[int, int]:
        """The deepest first, then those with the most parameters, which are in the adapters."""
        return -self.depth, -self.figures.parameters

    @property
    def needs_checkpointing(self) -> bool:
        """Whether it exceeds the budget of memory without ``with_cp=True``."""
        return self.figures.memory(self.batch, False) > self.limits.get('memory', float('inf'))

    def values(self) -> dict[str, float | None]:
        """What is held against the budgets; of memory the lower value, with checkpointing."""
        return {
            'params': self.figures.parameters,
            'gflops': self.figures.multiply_adds,
            'memory': self.figures.memory(self.batch, True),
            'latency': self.figures.seconds if self.latency is None else self.latency,
        }

    def excess(self) -> dict[str, float]:
        """By what share of it each budget is exceeded; empty if the net fits."""
        values = self.values()
        return {name: values[name] / limit - 1 for name, limit in self.limits.items() if values[name] > limit}

    def text(self, candidate: Candidate) -> str:
        """The options of one of the candidates, as they are written in a config."""
        return candidate.text + ', with_cp=True' * self.needs_checkpointing

    def arguments(self, candidate: Candidate) -> dict[str, object]:
        """The same as a config holds them."""
        return candidate.arguments() | ({'with_cp': True} if self.needs_checkpointing else {})

    def shortfall(self) -> str:
        """What the net needs of every budget it exceeds."""
        return '; '.join(f'{amount(name, self.values()[name])}, {share:.1%} above the budget of '
                         f'{amount(name, self.limits[name])}' for name, share in self.excess().items())


def in_order(rows: list[Row]) -> list[Row]:
    """Those that fit by their rank, behind them what fits not, the nearest first."""
    return sorted(rows, key=lambda row: (max(row.excess().values(), default=0), *row.rank))
