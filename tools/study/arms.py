"""What arms change in the config of their base, and how a grid's arms become runs."""
from runs import Run

CONFIGS = dict(deit='configs/study/deit-micro_8k_fashion-mnist.py',
               swin='configs/study/swin-micro_3600i_fashion-mnist.py',
               shallow_deit='configs/study/deit-shallow_8k_fashion-mnist.py',
               long_shallow_deit='configs/study/deit-shallow_32k_fashion-mnist.py',
               long_single_deit='configs/study/deit-single_64k_fashion-mnist.py',
               crops_deit='configs/study/deit-single_32k_fashion-crops.py',
               crops_2_deit='configs/study/deit-double_18000i_fashion-crops.py',
               crops_3_deit='configs/study/deit-triple_12600i_fashion-crops.py',
               crops_6_deit='configs/study/deit-micro_6600i_fashion-crops.py',
               crops_swin='configs/study/swin-pairs_16k_fashion-crops.py',
               narrow_deit='configs/study/deit-narrow_32k_fashion-crops.py',
               long_narrow_deit='configs/study/deit-narrow_128k_fashion-crops.py',
               demo_deit='configs/study/deit-single_8k_fashion-crops.py',
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
#: Charged as if the added positions always ran: it gets less than its share.
RAMP = {'custom_hooks': [dict(type='mmscalenet.DepthHook', mode='ramp', begin='first', end='decay'),
                         dict(type='mmscalenet.CurveHook')]}
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


#: Of the longest budget; each age leaves the same trunk.
AGES = (1 / 8, 1 / 4, 1 / 2, 1)


def of_every_age(arms: Arms, ways: dict[str, dict], ages: tuple[float, ...] = AGES) -> list[Run]:
    """Bases of several ages: one trunk, left at 70 % of each age, with a decay for each; first of ``ways`` is the base.
    """
    opponent, thousands = next(iter(ways)), arms.base.budget // 1000
    return [arms.base, *(
        arms.fork(f'{arm}, {age * thousands:g}k steps', options, at=FORK * age, until=age, decay=0.15 * age,
                  opponent=opponent if age == 1 else f'{opponent}, {age * thousands:g}k steps')
        for age in ages for arm, options in ways.items() if not (arm == opponent and age == 1))]
