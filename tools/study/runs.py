"""A run of a study, and what follows from its declaration: steps, schedule, config and FLOPs."""
import copy
import hashlib
import json
import sys
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from statistics import mean

from mmengine.config import Config

from mmscalenet.engine import read_config

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / 'tools/analysis_tools'))

from get_flops import build, image_shape  # noqa: E402
from training_flops import training_multiply_adds  # noqa: E402

#: A training step costs three times its forward pass, and a multiply-add is two FLOPs.
FLOPS_PER_MULTIPLY_ADD = 3 * 2


@dataclass(frozen=True)
class Run:
    """One training, from scratch or from the checkpoint of another run of the same seed.

    The *budget* is what the base of ``config`` spends in its ``train_cfg.max_iters`` steps. A run takes the part of it
    from ``at`` to ``until``, in its own, dearer steps.

    ::

        0                       at                  1 - decay    until
        |  warmup, then stable  |  stable: this run  |  decay     |

    Args:
        grid (str): The grid that it belongs to; names the file of its line.
        arm (str): What is compared.
        seed (int): Seed of the weights, of the order of the images and of their augmentation.
        config (str): Config of the base, relative to the repository.
        options (dict): What the arm changes in it, by dotted names. Defaults to nothing.
        parent (Run, optional): The run whose checkpoint it starts from. Defaults to None: from scratch.
        at (float): Part of the budget at which the parent is left. Defaults to 0.
        until (float): Part of the budget at which the run ends. Defaults to 1.
        decay (float): The last part of the budget, in which the learning rate falls to zero. Defaults to 0.15.
        equal (str): 'flops': its part of the budget in FLOPs; 'steps': as many steps as the base takes for it.
            Defaults to 'flops'.
        warmup (float): The first part of the budget, in which the learning rate rises. Defaults to 0.05.
        lr (float): Factor on the learning rate. Defaults to 1.
        restart (bool): Whether it takes the weights alone and starts a schedule of its own. Defaults to False: the
            optimizer's moments and the count of iterations go on.
        opponent (str): Arm of the trunk's grid to compare with. Defaults to 'base'.
        tested_at (tuple[int, ...]): Depths at which the finished net is tested, too. Defaults to none.
    """
    grid: str
    arm: str
    seed: int
    config: str
    options: dict = field(default_factory=dict, hash=False)
    parent: 'Run | None' = None
    at: float = 0.
    until: float = 1.
    decay: float = 0.15
    equal: str = 'flops'
    warmup: float = 0.05
    lr: float = 1.
    restart: bool = False
    opponent: str = 'base'
    tested_at: tuple[int, ...] = ()

    @property
    def family(self) -> str:
        """'deit' or 'swin'."""
        return Path(self.config).stem.split('-')[0]

    @property
    def name(self) -> str:
        return f'{self.arm.replace(" ", "-").replace(",", "").replace("/", "-")}_s{self.seed}'

    @cached_property
    def declared(self) -> Config:
        """The config with the arm's options, without what belongs to the single run."""
        return config_of(self.config, self.options)

    @property
    def trunk_grid(self) -> str:
        """The grid of the run that all began with."""
        return self.parent.trunk_grid if self.parent else self.grid

    @property
    def batch(self) -> int:
        return self.declared.train_dataloader.batch_size

    @property
    def multiply_adds(self) -> int:
        """Of a step's forward pass."""
        return self._costs[0]

    @property
    def parameters(self) -> int:
        return self._costs[1]

    @cached_property
    def _costs(self) -> tuple[int, int]:
        """The mean of the depths that elastic training draws from."""
        drawn = next((hook.depths for hook in self.declared.custom_hooks if hook.get('mode') == 'elastic'), [None])
        counts = [self.costs_at(depth) for depth in drawn]
        return round(mean(count for count, _ in counts)), counts[0][1]

    def costs_at(self, depth: int | None) -> tuple[int, int]:
        """Multiply-adds of a step's forward pass, and parameters, of the net run at ``depth``; None: as declared."""
        cfg = copy.deepcopy(self.declared)
        if depth:
            cfg.model.backbone.depth = depth
        return _count(f'default_scope = {cfg.default_scope!r}\nmodel = {cfg.model.to_dict()!r}\n'
                      f'data_preprocessor = {cfg.get("data_preprocessor")!r}', self.batch)

    @cached_property
    def budget(self) -> int:
        """Steps of the base."""
        return config_of(self.config, {}).train_cfg.max_iters

    def steps_for(self, part: float) -> int:
        """Own steps that take this part of the budget."""
        steps = part * self.budget
        return round(steps if self.equal == 'steps' else steps * self._base.multiply_adds / self.multiply_adds)

    @cached_property
    def _base(self) -> 'Run':
        return Run('', 'base', 0, self.config)

    @cached_property
    def start(self) -> int:
        """The parent's count of iterations where this run leaves it."""
        return self.parent.step_at(self.at) if self.parent else 0

    @cached_property
    def first(self) -> int:
        """The count of iterations that it begins with."""
        return 0 if self.restart else self.start

    @cached_property
    def end(self) -> int:
        return self.first + self.steps_for(self.until - self.at)

    def step_at(self, part: float) -> int:
        """Its count of iterations when this part of the budget is spent."""
        return self.first + self.steps_for(part - self.at)

    def flops_at(self, step: int) -> int:
        """Training FLOPs spent until this count of iterations, those of the parents included."""
        before = self.parent.flops_at(self.start) if self.parent else 0
        return before + FLOPS_PER_MULTIPLY_ADD * self.multiply_adds * (step - self.first)

    @property
    def phases(self) -> list[dict]:
        """Steps and costs of what leads to the end of this run, its parents' parts first."""
        before = self.parent.phases_until(self.start) if self.parent else []
        return [*before, self._phase(self.end)]

    def phases_until(self, step: int) -> list[dict]:
        before = self.parent.phases_until(self.start) if self.parent else []
        return [*before, self._phase(step)]

    def _phase(self, step: int) -> dict:
        steps = step - self.first
        return dict(arm=self.arm, steps=steps, multiply_adds=self.multiply_adds,
                    train_flops=FLOPS_PER_MULTIPLY_ADD * self.multiply_adds * steps)

    def schedule(self) -> list[dict]:
        """Warmup, stable, decay in counts of iterations."""
        decay = min(self.steps_for(self.decay), self.end - self.first)
        fall = dict(type='LinearLR', start_factor=1., end_factor=1e-3, by_epoch=False, begin=self.end - decay,
                    end=self.end)
        rise = round(self.warmup * self.budget)
        if self.restart:  # the warmup of a short run is a part of its own length
            rise = max(1, round(self.warmup * (self.end - self.first)))
            fall['begin'] = max(fall['begin'], rise)
        return [dict(type='LinearLR', start_factor=1e-2, by_epoch=False, begin=0, end=rise), fall]

    def train_config(self) -> Config:
        """What tools/train.py is given."""
        cfg = config_of(self.config, self.options)
        cfg.randomness = dict(seed=self.seed)
        cfg.optim_wrapper.optimizer.lr *= self.lr
        cfg.param_scheduler = self.schedule()
        cfg.train_cfg.max_iters = self.end
        for hook in cfg.custom_hooks:  # parts of a run in its own iterations
            hook.update({key: dict(first=self.first, decay=cfg.param_scheduler[1].begin)[value]
                         for key, value in hook.items() if key in ('begin', 'end')})
        # A trunk is evaluated and kept as its config says, for others to start from. Of a short part, the start, the
        # middle and the end are evaluated, as each costs some 25 steps.
        cfg.default_hooks.checkpoint.max_keep_ckpts = -1
        if self.parent:
            steps = self.end - self.first
            cfg.train_cfg.val_interval = self.first + -(-steps // 2)
            cfg.default_hooks.checkpoint.update(interval=-(-steps // 5), max_keep_ckpts=1)
        return cfg

    @cached_property
    def digest(self) -> str:
        """Changes with everything that decides the result, but for the code."""
        parts = [json.dumps(self.train_config().to_dict(), sort_keys=True, default=str), str(self.first),
                 str(self.restart)]
        if self.parent:
            parts += [self.parent.digest, str(self.start)]
        return hashlib.sha256('\n'.join(parts).encode()).hexdigest()[:16]


@cache
def _read(path: str) -> Config:
    return read_config(path)


def config_of(path: str, options: dict) -> Config:
    """A config with options, for the caller to change."""
    cfg = copy.deepcopy(_read(str(ROOT / path)))
    cfg.merge_from_dict(copy.deepcopy(options))
    return cfg


@cache
def _count(text: str, batch: int) -> tuple[int, int]:
    """Multiply-adds of a batch's forward pass in training, and parameters, of the model of a config."""
    cfg = Config.fromstring(text, '.py')
    model, shape = build(cfg), image_shape(cfg)
    image = (cfg.model.backbone.get('in_channels', 3), shape[0], shape[-1])
    return training_multiply_adds(model, cfg, image, batch), sum(p.numel() for p in model.parameters())
