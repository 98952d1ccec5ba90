"""The first tier: small nets on Fashion-MNIST, minutes a run."""
from dataclasses import replace

from arms import (
    ADAPTER,
    AGES,
    EMA,
    FEW,
    FORK,
    GATE_RATE,
    GATED,
    HALF,
    INJECT,
    KEYS,
    PART,
    RAMP,
    SCALENET,
    SCRATCH,
    SHARED,
    STACKED,
    THIRD,
    TWICE,
    WAYS,
    Arms,
    B,
    of_every_age,
)
from runs import Run


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
    return [
        fork('third', third),
        fork('third, gate 0', third | {f'{B}gate': 0.} | GATE_RATE),
        fork('half', HALF[family]),
        fork('third, inject', third | INJECT),
        fork('third, 1/N', third | PART),
        fork('third, 1/N, inject', third | PART | INJECT | {KEYS: PART[KEYS] | INJECT[KEYS]}),
        fork('whole, interleaved, 1/N', TWICE | PART | {f'{B}layer_map': 'interleaved'}),
        fork('third, ramp', third | RAMP),
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


def depths(family: str, seed: int) -> list[Run]:
    """Nets of other depths from scratch for the base's whole budget: which depth is best for it?"""
    arms = Arms(f't1_{family}_depths', family, seed)
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
