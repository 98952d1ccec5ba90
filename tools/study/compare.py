"""Arms against their opponents, paired by seed."""
from dataclasses import dataclass
from math import sqrt
from statistics import mean, stdev

from metrics import Metric, of_record
from scipy.stats import t


@dataclass(frozen=True)
class Estimate:
    """Mean of some values, their standard deviation and half the width of the mean's 95 % interval.

    The last two are None of a single value.
    """
    mean: float
    std: float | None
    half: float | None
    count: int

    @classmethod
    def of(cls, values: list[float]) -> 'Estimate':
        count = len(values)
        if count < 2:
            return cls(mean(values), None, None, count)
        spread = stdev(values)
        return cls(mean(values), spread, float(t.ppf(0.975, count - 1)) * spread / sqrt(count), count)


class Arms:
    """The lines of all grids by grid, arm and seed."""

    def __init__(self, records: list[dict]) -> None:
        self.records: dict[tuple[str, str], dict[int, dict]] = {}
        for record in records:
            self.records.setdefault((record['study'], record['arm']), {})[record['seed']] = record

    def of(self, study: str) -> list[str]:
        return [arm for name, arm in self.records if name == study]

    def metrics(self, study: str) -> list[Metric]:
        """By which the arms of a grid are compared."""
        return of_record(next(iter(self.records[study, self.of(study)[0]].values())))

    def values(self, study: str, arm: str, key: str) -> list[float]:
        """The last value of each seed."""
        return [record['curve'][-1][key] for record in self.records[study, arm].values()]

    def gain(self, study: str, arm: str, key: str, against: tuple[str, str] | None = None) -> Estimate | None:
        """The mean difference to the opponent of the same seed; None where no seed has both.

        Args:
            study (str): The grid.
            arm (str): The arm.
            key (str): Of a metric.
            against (tuple[str, str], optional): Grid and arm. Defaults to None: the opponent that the lines name.
        """
        ours = self.records[study, arm]
        first = next(iter(ours.values()))
        theirs = self.records.get(against or (first['opponent_study'], first['opponent']), {})
        if theirs is ours:
            return None
        pairs = [(ours[seed], theirs[seed]) for seed in ours.keys() & theirs.keys()]
        return Estimate.of([a['curve'][-1][key] - b['curve'][-1][key] for a, b in pairs]) if pairs else None
