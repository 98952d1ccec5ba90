"""The grids of runs, declared. docs/results/growth/plan.md says what they are to show.

Within a grid all arms of seed 0 come first, then those of seed 1, and so on.
"""
from collections.abc import Callable
from dataclasses import replace

from runs import Run

SEEDS = range(5)
CONFIGS = dict(deit='configs/study/deit-micro_8k_fashion-mnist.py',
               swin='configs/study/swin-micro_3600i_fashion-mnist.py',
               shallow_deit='configs/study/deit-shallow_8k_fashion-mnist.py',
               long_shallow_deit='configs/study/deit-shallow_32k_fashion-mnist.py',
               long_single_deit='configs/study/deit-single_64k_fashion-mnist.py',
               crops_deit='configs/study/deit-single_32k_fashion-crops.py',
               crops_2_deit='configs/study/deit-double_18000i_fashion-crops.py',
               crops_3_deit='configs/study/deit-triple_12600i_fashion-crops.py',
               crops_6_deit='configs/study/deit-micro_6600i_fashion-crops.py',
               demo_deit='configs/study/deit-single_10k_fashion-crops.py',
               mask_rcnn='configs/study/mask-rcnn_deit-nano_6000i_fashion-scenes.py',
               upernet='configs/study/upernet_deit-nano_6000i_fashion-scenes.py',
               long_deit='configs/study/deit-micro_16k_fashion-mnist.py',
               dinov2='configs/study/dinov2-small_500i_fashion-crops.py')
FORK = 0.7

# What an arm changes in the config of the base.
B = 'model.backbone.'
ADAPTER = {f'{B}adapter': dict(type='ParallelAdapter', _delete_=True)}  # in the place of none
TWICE = {f'{B}scale': 2}
SHARED = TWICE  # of the base's config: no adapter
SCALENET = TWICE | ADAPTER
STACKED = TWICE | {f'{B}share': False}
WAYS = {'base': {}, 'shared': SHARED, 'ScaleNet': SCALENET, 'stacked': STACKED}
KEYS = 'optim_wrapper.paramwise_cfg.custom_keys'
GATE_RATE = {KEYS: dict(gate=dict(lr_mult=10., decay_mult=0.))}
GATED = SCALENET | {f'{B}gate': 0.} | GATE_RATE
#: Factors that start at 1/N are alive; those of the core's input start at 0, as closed gates do.
PART = {f'{B}gate': '1/N', KEYS: dict(gate=dict(decay_mult=0.))}
INJECT = {f'{B}inject': True, KEYS: dict(inject=dict(lr_mult=10., decay_mult=0.))}
EMA = {'custom_hooks': [dict(type='EMAHook', momentum=0.005), dict(type='mmscalenet.CurveHook')]}
FEW = {'train_dataloader.dataset.indices': 5000}
#: Full depth from scratch; LayerScale with CaiT's value for nets of up to 18 blocks (arXiv 2103.17239). mmpretrain's
#: Swin has none.
SCRATCH = dict(
    deit={f'{B}arch.num_layers': 12, f'{B}layer_scale_init_value': 0.1},
    swin={f'{B}arch.depths': [4, 12]})
#: Middle third and half of the blocks run twice. A Swin's blocks go in pairs: of its long stage one pair, or two.
THIRD = dict(
    deit={f'{B}layer_map': 'middle_cycle', f'{B}core': (2, 3), f'{B}scale': 8 / 6},
    swin={f'{B}layer_map': 'middle_cycle', f'{B}core': [None, (2, 3)], f'{B}scale': [1, 8 / 6]},
    dinov2={f'{B}layer_map': 'middle_cycle', f'{B}core': (4, 7), f'{B}scale': 16 / 12})
HALF = dict(
    deit={f'{B}layer_map': 'middle_cycle', f'{B}core': (2, 4), f'{B}scale': 9 / 6},
    swin={f'{B}layer_map': 'middle_cycle', f'{B}core': [None, (2, 5)], f'{B}scale': [1, 10 / 6]},
    dinov2={f'{B}layer_map': 'middle_cycle', f'{B}core': (3, 8), f'{B}scale': 18 / 12})


class Arms:
    """Makes the runs of one family and seed.

    Args:
        grid (str): Name of the grid.
        family (str): A key of ``CONFIGS``.
        seed (int): The seed.
        trunk_grid (str, optional): Grid in which the trunk has its line. Defaults to None: this one.
        **fields: Of all its runs.
    """

    def __init__(self, grid: str, family: str, seed: int, trunk_grid: str | None = None, **fields) -> None:
        self.common = dict(grid=grid, seed=seed, config=CONFIGS[family]) | fields
        self.base = Run(arm='base', **self.common | dict(grid=trunk_grid or grid))

    def fork(self, arm: str, options: dict, at: float = FORK, **fields) -> Run:
        """A run that takes the rest of the budget from the trunk on."""
        return Run(arm=arm, options=options, **dict(parent=self.base, at=at) | fields, **self.common)

    def scratch(self, arm: str, options: dict, **fields) -> Run:
        return Run(arm=arm, options=options, **fields, **self.common)


def opponents(family: str, seed: int) -> list[Run]:
    """The opponents, the paper's ScaleNet, when to grow, and what the learning rate and averaging do to both sides."""
    arms = Arms(f't1_{family}', family, seed)
    fork = arms.fork
    finished = fork('base finished early', {}, at=0.6, until=FORK, decay=0.1)
    again = dict(parent=finished, restart=True, decay=1.)
    return [
        arms.base,
        fork('shared', SHARED),
        fork('ScaleNet', SCALENET),
        fork('gate 0', GATED),
        fork('stacked', STACKED),
        fork('base, adapters', ADAPTER),
        arms.scratch('scratch, full depth', SCRATCH[family]),
        # at equal steps
        fork('ScaleNet, equal steps', SCALENET, equal='steps'),
        fork('gate 0, equal steps', GATED, equal='steps'),
        fork('stacked, equal steps', STACKED, equal='steps'),
        # when
        *(fork(f'{arm}, at {at:g}', options, at=at) for at in (0.5, 0.85)
          for arm, options in (('ScaleNet', SCALENET), ('gate 0', GATED), ('stacked', STACKED))),
        finished,
        fork('base, restarted', {}, **again),
        fork('ScaleNet, restarted', SCALENET, **again, opponent='base, restarted'),
        fork('gate 0, restarted', GATED, **again, opponent='base, restarted'),
        # the rate of the rest
        *(fork(f'{arm}, lr x{lr:g}', options, lr=lr, opponent=f'base, lr x{lr:g}' if options else 'base')
          for lr in (0.5, 2)
          for arm, options in (('base', {}), ('ScaleNet', SCALENET), ('gate 0', GATED))),
        # averaged weights
        *(fork(f'{arm}, EMA', options | EMA, opponent='base, EMA' if options else 'base')
          for arm, options in (('base', {}), ('ScaleNet', SCALENET), ('gate 0', GATED))),
    ]


def mechanisms(family: str, seed: int) -> list[Run]:
    """One mechanism at a time, on a looped middle third unless it says otherwise."""
    arms = Arms(f't1_{family}_mechanisms', family, seed, trunk_grid=f't1_{family}')
    fork, third = arms.fork, THIRD[family]
    # charged as if the added positions always ran: it gets less than its share
    ramp = dict(type='mmscalenet.DepthHook', mode='ramp', begin='first', end='decay')
    return [
        fork('third', third),
        fork('third, gate 0', third | {f'{B}gate': 0.} | GATE_RATE),
        fork('half', HALF[family]),
        fork('third, inject', third | INJECT),
        fork('third, 1/N', third | PART),
        fork('third, 1/N, inject', third | PART | INJECT | {KEYS: PART[KEYS] | INJECT[KEYS]}),
        fork('whole, interleaved, 1/N', TWICE | PART | {f'{B}layer_map': 'interleaved'}),
        fork('third, ramp', third | {'custom_hooks': [ramp, dict(type='mmscalenet.CurveHook')]}),
        fork('third, own norms', third | {f'{B}unshare': 'norms'}),
        fork('third, LoRA', third | {f'{B}adapter': dict(type='LoRA', rank=8, _delete_=True)}),
        fork('third, adapters', third | ADAPTER),
        fork('third, wide adapters', third | {f'{B}adapter': dict(type='ParallelAdapter', ratio=1., _delete_=True)}),
        *(fork(f'third, adapters, their lr x{rate:g}',
               third | ADAPTER | {KEYS: dict(adapter=dict(lr_mult=float(rate)))}) for rate in (3, 10)),
        *(fork(f'third, lr x{lr:g}', third, lr=lr, opponent=f'base, lr x{lr:g}') for lr in (0.5, 2)),
    ]


def few(family: str, seed: int) -> list[Run]:
    """5,000 images, repeated often. The trunk sees them, too."""
    arms = Arms(f't1_{family}_few', family, seed)
    arms.base = replace(arms.base, options=FEW)
    fork = arms.fork
    return [
        arms.base,
        fork('ScaleNet', FEW | SCALENET),
        fork('gate 0', FEW | GATED),
        fork('shared', FEW | SHARED),
        fork('stacked', FEW | STACKED),
        fork('base, adapters', FEW | ADAPTER),
        arms.scratch('scratch, full depth', FEW | SCRATCH[family]),
    ]


def few_mechanisms(family: str, seed: int) -> list[Run]:
    """The same with a looped middle."""
    arms = Arms(f't1_{family}_few_mechanisms', family, seed, trunk_grid=f't1_{family}_few')
    arms.base = replace(arms.base, options=FEW)
    third = FEW | THIRD[family]
    return [
        arms.fork('third', third),
        arms.fork('third, 1/N', third | PART),
        arms.fork('third, inject', third | INJECT),
        # as few steps as the grown ones take, and less compute: where a base over-fits, less is more
        *(arms.fork(f'base, steps of {arm}', FEW, until=FORK + (1 - FORK) * part, decay=0.15 * part)
          for arm, part in (('third', 6 / 8), ('shared', 1 / 2))),
    ]


#: Of the longest budget; each age leaves the same trunk.
AGES = (1 / 8, 1 / 4, 1 / 2, 1)


def of_every_age(arms: Arms, ways: dict[str, dict]) -> list[Run]:
    """Bases of four ages: one trunk, left at 70 % of each age, with a decay for each; first of ``ways`` is the base."""
    opponent, thousands = next(iter(ways)), arms.base.budget // 1000
    return [arms.base, *(
        arms.fork(f'{arm}, {age * thousands:g}k steps', options, at=FORK * age, until=age, decay=0.15 * age,
                  opponent=opponent if age == 1 else f'{opponent}, {age * thousands:g}k steps')
        for age in AGES for arm, options in ways.items() if not (arm == opponent and age == 1))]


def regime(family: str, seed: int, few: bool = False) -> list[Run]:
    """Over the age of the base; 5,000 images are seen often in each."""
    data, name = (FEW, f't1_{family}_regime_few') if few else ({}, f't1_{family}_regime')
    arms = Arms(name, f'long_{family}', seed, warmup=0.025)
    arms.base = replace(arms.base, options=data)
    third = data | THIRD[family]
    return of_every_age(arms, {'base': data, 'third': third, 'third, inject': third | INJECT, 'shared': data | SHARED,
                               'ScaleNet': data | SCALENET})


def regime_few(family: str, seed: int) -> list[Run]:
    """The same on 5,000 images."""
    return regime(family, seed, few=True)


def shallow_regime(family: str, seed: int, blocks: int = 2) -> list[Run]:
    """Over the age of a base of 2 blocks; another way is to train deeper nets from scratch."""
    name, kind = {1: ('single', 'long_single'), 2: ('shallow', 'long_shallow')}[blocks]
    # the warmup is as long as that of t1_deit in steps of this base
    arms = Arms(f't1_{family}_{name}_regime', f'{kind}_{family}', seed, warmup=0.0125 * blocks / 2)
    thousands = arms.base.budget // 1000
    return [*of_every_age(arms, WAYS), *(
        arms.scratch(f'scratch, {depth} blocks, {age * thousands:g}k steps', {f'{B}arch.num_layers': depth}, until=age,
                     decay=0.15 * age, opponent='base' if age == 1 else f'base, {age * thousands:g}k steps')
        for depth in {1: (2, ), 2: (4, 6)}[blocks] for age in AGES[1:])]


def single_regime(family: str, seed: int) -> list[Run]:
    """The same of a base of 1 block."""
    return shallow_regime(family, seed, blocks=1)


def confirmation(family: str, seed: int) -> list[Run]:
    """Second tier: what the first has found for a base of 1 block, on other images."""
    return of_every_age(Arms(f't2_{family}_crops', f'crops_{family}', seed, warmup=0.0125), WAYS)


def deeper(family: str, seed: int) -> list[Run]:
    """The same of deeper bases, for the FLOPs of its longest budget; the bases say which depth is best for that."""
    runs = []
    for blocks in (2, 3, 6):
        arms = Arms(f't2_{family}_deeper', f'crops_{blocks}_{family}', seed)
        warmup, name = 400 / arms.base.budget, f'base, {blocks} blocks'
        arms.common |= dict(warmup=warmup)
        arms.base = replace(arms.base, arm=name, warmup=warmup)
        runs += [arms.base, *(arms.fork(f'{arm}, {blocks} blocks', options, opponent=name)
                              for arm, options in WAYS.items() if options)]
    return runs


def dense(family: str, seed: int) -> list[Run]:
    """Second tier: detectors and segmentors, in whose steps the backbone is one part among several."""
    arms = Arms(f't2_{family}', family, seed)
    # interleaved, or the outputs of early blocks would not start as the base's
    ways = WAYS | {'gate 0': SCALENET | {f'{B}gate': 0., f'{B}layer_map': 'interleaved',
                                         'optim_wrapper.paramwise_cfg.gate_lr_mult': 10.}}
    return [arms.base, *(arms.fork(arm, options) for arm, options in ways.items() if options)]


def demo(family: str, seed: int) -> list[Run]:
    """What make demo shows: one seed of it with one, small budget."""
    arms = Arms('demo', f'demo_{family}', seed, warmup=0.04)
    return [arms.base, *(arms.fork(arm, options) for arm, options in WAYS.items() if options)]


def depths(family: str, seed: int) -> list[Run]:
    """Nets of other depths from scratch for the base's whole budget: which depth is best for it?"""
    arms = Arms(f't1_{family}_depths', family, seed, trunk_grid=f't1_{family}')
    return [arms.scratch(f'scratch, {blocks} blocks', {f'{B}arch.num_layers': blocks})
            for blocks in (1, 2, 3, 4, 9, 12)]


def shallow(family: str, seed: int) -> list[Run]:
    """A base of 2 blocks, fewer than its budget would bear."""
    arms = Arms(f't1_{family}_shallow', f'shallow_{family}', seed)
    fork, blocks = arms.fork, f'{B}arch.num_layers'
    interleaved = TWICE | {f'{B}layer_map': 'interleaved'}
    return [
        arms.base,
        fork('shared', SHARED),
        fork('interleaved', interleaved),
        fork('interleaved, 1/N', interleaved | PART),
        fork('shared, inject', SHARED | INJECT),
        fork('ScaleNet', SCALENET),
        fork('gate 0', GATED),
        fork('stacked', STACKED),
        fork('stacked, interleaved', interleaved | {f'{B}share': False}),
        fork('base, adapters', ADAPTER),
        *(fork(f'{arm}, at {at:g}', options, at=at) for at in (0.3, 0.5)
          for arm, options in (('shared', SHARED), ('ScaleNet', SCALENET), ('stacked', STACKED))),
        *(arms.scratch(f'scratch, {number} blocks', {blocks: number}) for number in (3, 4, 6)),
        *(fork(f'{arm}, lr x{lr:g}', options, lr=lr, opponent=f'base, lr x{lr:g}' if options else 'base')
          for lr in (0.5, 2) for arm, options in (('base', {}), ('ScaleNet', SCALENET), ('stacked', STACKED))),
    ]


def pretrained(family: str, seed: int) -> list[Run]:
    """Third tier: a real pretrained backbone, fine-tuned, and grown at 70 % of the budget."""
    arms = Arms(f't3_{family}', family, seed, lr=0.3)  # the best of ``rates``
    fork, third = arms.fork, THIRD[family]
    return [
        arms.base,
        fork('third', third),
        fork('third, inject', third | INJECT),
        fork('third, 1/N', third | PART),
        fork('ScaleNet', SCALENET),
        fork('shared', SHARED),
        fork('gate 0', GATED),
        fork('half', HALF[family]),
        fork('stacked third', third | {f'{B}share': False}),
    ]


def rates(family: str, seed: int) -> list[Run]:
    """The base's learning rate, by short runs: ``pretrained`` takes the best."""
    arms = Arms(f't3_{family}_rates', family, seed)
    return [arms.scratch(f'base, lr x{lr:g}', {}, lr=lr, until=0.5, decay=0.075) for lr in (0.1, 0.3, 1)]


def _every_seed(make: Callable[[str, int], list[Run]], family: str, seeds: range = SEEDS) -> Callable[[], list[Run]]:
    return lambda: [run for seed in seeds for run in make(family, seed)]


#: Name -> function that gives its runs in their order.
GRIDS: dict[str, Callable[[], list[Run]]] = {
    f't1_{family}{suffix}': _every_seed(make, family) for family in ('deit', 'swin')
    for suffix, make in (('', opponents), ('_few', few), ('_mechanisms', mechanisms),
                         ('_few_mechanisms', few_mechanisms))}
GRIDS |= {
    't1_deit_depths': _every_seed(depths, 'deit'),
    't1_deit_shallow_regime': _every_seed(shallow_regime, 'deit'),
    't1_deit_single_regime': _every_seed(single_regime, 'deit'),
    't1_deit_shallow': _every_seed(shallow, 'deit'),
    't1_deit_regime': _every_seed(regime, 'deit'),
    't1_deit_regime_few': _every_seed(regime_few, 'deit'),
    't2_deit_crops': _every_seed(confirmation, 'deit', range(3)),
    't2_deit_deeper': _every_seed(deeper, 'deit', range(3)),
    't2_mask_rcnn': _every_seed(dense, 'mask_rcnn', range(2)),
    't2_upernet': _every_seed(dense, 'upernet', range(2)),
    'demo': _every_seed(demo, 'deit', range(1)),
    't3_dinov2_rates': _every_seed(rates, 'dinov2', range(1)),
    't3_dinov2': _every_seed(pretrained, 'dinov2', range(3))}
