"""The second tier, other images and tasks, and the third, a real pretrained backbone."""
from dataclasses import replace

from arms import (
    EMA,
    FORK,
    GATED,
    HALF,
    INJECT,
    KEYS,
    PART,
    RAMP,
    SCALENET,
    SHARED,
    STACKED,
    THIRD,
    WAYS,
    Arms,
    B,
    of_every_age,
)
from runs import Run


def confirmation(family: str, seed: int) -> list[Run]:
    """Second tier: what the first has found for a DeiT of 1 block, on other images; a Swin has a pair at each stage."""
    warmup = dict(deit=400 / 32000, swin=400 / 16000)[family]
    return of_every_age(Arms(f't2_{family}_crops', f'crops_{family}', seed, warmup=warmup), WAYS)


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


def narrow(family: str, seed: int) -> list[Run]:
    """As ``confirmation``, of a base of 6 blocks whose budget is about as large for its parameters as that of one."""
    return of_every_age(Arms(f't2_{family}_narrow_regime', f'narrow_{family}', seed, warmup=0.0125),
                        WAYS | {'third': THIRD[family]})


def long_narrow(family: str, seed: int) -> list[Run]:
    """The same for longer budgets, without the paper's form, which costs what sharing costs and has come out as it."""
    arms = Arms(f't2_{family}_narrow_long_regime', f'long_narrow_{family}', seed, warmup=400 / 128000)
    ways = {way: options for way, options in WAYS.items() if way != 'ScaleNet'}
    return of_every_age(arms, ways | {'third': THIRD[family]}, ages=(1 / 2, 1))


def elastic(family: str, seed: int) -> list[Run]:
    """One set of weights for 1 to 4 runs of the one block, or of its copies, against a net for each depth."""
    arms = Arms(f't2_{family}_elastic', f'crops_{family}', seed, trunk_grid=f't2_{family}_crops', warmup=0.0125)
    depths, runs = (1, 2, 3, 4), []
    hook = dict(type='mmscalenet.DepthHook', mode='elastic', depths=depths, seed=seed)
    for way, options in (('shared', {}), ('stacked', {f'{B}share': False})):
        # depth 2 is in the trunk's grid, and 1 is the base
        runs += [arms.fork(f'{way}, 3', options | {f'{B}scale': 3}),
                 arms.fork(f'{way}, 4', options | {f'{B}scale': 4}, tested_at=depths),
                 arms.fork(f'{way}, elastic', options | {f'{B}scale': 4, 'custom_hooks': [
                     hook, dict(type='mmscalenet.CurveHook')]}, tested_at=depths)]
    return runs


def dials(family: str, seed: int) -> list[Run]:
    """What each option adds to sharing alone where that pays."""
    arms, part = _half(f't2_{family}_dials', family, seed)
    adapters = {name: {f'{B}adapter': dict(**adapter, _delete_=True)} for name, adapter in (
        ('LoRA', dict(type='LoRA', rank=8)), ('wide adapters', dict(type='ParallelAdapter', ratio=1.)),
        ('adapters, their lr x10', dict(type='ParallelAdapter')))}
    adapters['adapters, their lr x10'] |= {KEYS: dict(adapter=dict(lr_mult=10.))}
    options = {'adapters, gate 0': GATED, 'inject': INJECT, '1/N': PART, 'own norms': {f'{B}unshare': 'norms'},
               **adapters, 'ramp': RAMP}
    return [arms.base, arms.fork('shared', SHARED, at=FORK / 2, **part),
            *(arms.fork(arm, SHARED | changed, at=FORK / 2, **part, opponent='shared')
              for arm, changed in options.items())]


def when(family: str, seed: int) -> list[Run]:
    """When to grow where that pays: early or late in the stable phase, as it ends, or from a finished net."""
    arms, part = _half(f't2_{family}_when', family, seed)
    finished = arms.fork('base finished early', {}, at=0.3, until=FORK / 2, decay=0.05)
    again = dict(parent=finished, at=FORK / 2, until=0.5, restart=True, decay=1.)
    ways = {'shared': SHARED, 'stacked': STACKED}
    return [arms.base,
            *(arms.fork(f'{way}, at {at:g}', options, at=at / 2, **part)
              for at in (FORK, 0.5, 0.85) for way, options in ways.items()),
            finished, arms.fork('base, restarted', {}, **again),
            *(arms.fork(f'{way}, restarted', options, opponent='base, restarted', **again)
              for way, options in ways.items())]


def same_tricks(family: str, seed: int) -> list[Run]:
    """Whether it pays at other learning rates of the whole run, too, and with averaged weights."""
    arms, part = _half(f't2_{family}_tricks', family, seed)
    ways = {'shared': SHARED, 'stacked': STACKED}
    runs = [arms.base, *(arms.fork(way, options, at=FORK / 2, **part) for way, options in ways.items()),
            arms.fork('base, EMA', EMA, at=FORK / 2, **part),
            *(arms.fork(f'{way}, EMA', options | EMA, at=FORK / 2, **part, opponent='base, EMA')
              for way, options in ways.items())]
    for lr in (0.5, 2):
        base = arms.scratch(f'base, lr x{lr:g}', {}, lr=lr, **part)
        runs += [base, *(arms.fork(f'{way}, lr x{lr:g}', options, lr=lr, parent=base, at=FORK / 2, **part,
                                   opponent=base.arm) for way, options in ways.items())]
    return runs


def _half(grid: str, family: str, seed: int) -> tuple[Arms, dict[str, float]]:
    """Arms for half of the largest budget of ``confirmation``, and where those end that go on to its end."""
    arms, part = Arms(grid, f'crops_{family}', seed, warmup=0.0125), dict(until=0.5, decay=0.075)
    arms.base = replace(arms.base, **part)
    return arms, part


def dense(family: str, seed: int) -> list[Run]:
    """Second tier: detectors and segmentors, in whose steps the backbone is one part among several."""
    arms = Arms(f't2_{family}', family, seed)
    # interleaved, or the outputs of early blocks would not start as the base's
    ways = WAYS | {'gate 0': SCALENET | {f'{B}gate': 0., f'{B}layer_map': 'interleaved',
                                         'optim_wrapper.paramwise_cfg.gate_lr_mult': 10.}}
    return [arms.base, *(arms.fork(arm, options) for arm, options in ways.items() if options)]


def demo(family: str, seed: int) -> list[Run]:
    """What make demo shows: one seed of it with one, small budget."""
    arms = Arms('demo', f'demo_{family}', seed)
    return [arms.base, *(arms.fork(arm, options) for arm, options in WAYS.items() if options)]


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
