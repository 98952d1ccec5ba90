"""The grids of runs, declared. docs/results/growth/plan.md says what they are to show.

Within a grid all arms of seed 0 come first, then those of seed 1, and so on.
"""
from collections.abc import Callable

import first_tier as first
import later_tiers as later
from runs import Run

SEEDS = range(5)


def _every_seed(make: Callable[[str, int], list[Run]], family: str, seeds: range = SEEDS) -> Callable[[], list[Run]]:
    return lambda: [run for seed in seeds for run in make(family, seed)]


#: Name -> function that gives its runs in their order.
GRIDS: dict[str, Callable[[], list[Run]]] = {
    f't1_{family}{suffix}': _every_seed(make, family) for family in ('deit', 'swin')
    for suffix, make in (('', first.opponents), ('_few', first.few), ('_mechanisms', first.mechanisms),
                         ('_few_mechanisms', first.few_mechanisms))}
GRIDS |= {
    't1_deit_depths': _every_seed(first.depths, 'deit'),
    't1_deit_shallow_regime': _every_seed(first.shallow_regime, 'deit'),
    't1_deit_single_regime': _every_seed(first.single_regime, 'deit'),
    't1_deit_shallow': _every_seed(first.shallow, 'deit'),
    't1_deit_regime': _every_seed(first.regime, 'deit'),
    't1_deit_regime_few': _every_seed(first.regime_few, 'deit'),
    't2_deit_crops': _every_seed(later.confirmation, 'deit', range(3)),
    't2_swin_crops': _every_seed(later.confirmation, 'swin', range(3)),
    't2_deit_deeper': _every_seed(later.deeper, 'deit', range(3)),
    't2_deit_narrow_regime': _every_seed(later.narrow, 'deit', range(3)),
    't2_deit_narrow_long_regime': _every_seed(later.long_narrow, 'deit', range(3)),
    't2_deit_elastic': _every_seed(later.elastic, 'deit', range(3)),
    't2_deit_dials': _every_seed(later.dials, 'deit', range(3)),
    't2_deit_when': _every_seed(later.when, 'deit', range(3)),
    't2_deit_tricks': _every_seed(later.same_tricks, 'deit', range(3)),
    't2_mask_rcnn': _every_seed(later.dense, 'mask_rcnn', range(2)),
    't2_upernet': _every_seed(later.dense, 'upernet', range(2)),
    'demo': _every_seed(later.demo, 'deit', range(1)),
    't3_dinov2_rates': _every_seed(later.rates, 'dinov2', range(1)),
    't3_dinov2': _every_seed(later.pretrained, 'dinov2', range(3))}
