"""Depth that changes while a net is trained."""
import math
from collections.abc import Sequence

from mmengine.hooks import EMAHook, Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import IterBasedTrainLoop, Runner

from mmscalenet.expansion import position_lists
from mmscalenet.registry import HOOKS

from ..depth import expanded_backbones, keep_depth
from ..depth_schedule import DepthSchedule
from ..errors import UsageError

MODES = ('grow', 'ramp', 'elastic')


@HOOKS.register_module()
class DepthHook(Hook):
    """Set how many positions of the expanded backbone run, iteration by iteration.

    ``grow``: the base's depth until ``begin``, the full one from there on. Growth wants to come late, once, before the
    learning rate decays (arXiv 2511.04981). ``ramp``: from ``begin`` on the full depth with a chance that rises to 1 at
    ``end``, all or none of the added positions in an iteration, so that compute is saved (stochastic depth, arXiv
    1603.09382, of the added part). ``elastic``: a depth drawn for every iteration from ``begin`` on, so that one set of
    weights runs at every depth (slimmable networks, arXiv 1812.08928).

    The optimizer is untouched: blocks keep their moments, and what a position owns neither moves nor decays before it
    runs. Norms and copies of blocks that added positions own start, at ``begin``, from the weights that the blocks have
    then. The depth is logged as ``depth``. Evaluations run, and checkpoints are tested, at the base's depth before
    ``begin`` and at the full one after.

    Args:
        mode (str): 'grow', 'ramp' or 'elastic'. Defaults to 'grow'.
        begin (float | int, optional): A float below 1 is a part of the run, an integer a number of epochs or
            iterations. Defaults to None: 0.75; with 'elastic' 0.
        end (float | int, optional): For 'ramp': where the chance is 1. Defaults to None: the end of the run.
        by_epoch (bool, optional): Whether integers count epochs. Defaults to None: where the run counts them.
        depths (Sequence[int], optional): For 'elastic': the depths to draw from; for Swin of all stages together.
            Defaults to None: all at which the net can run.
        sandwich (bool): For 'elastic': train the smallest and the largest depth in every step of the optimizer, the
            first two of its ``accumulative_counts`` iterations (the sandwich rule, arXiv 1903.05134). Defaults to
            False.
        seed (int): Seed of the draws, which are the same in all processes and when resumed. Defaults to 0.

    Raises:
        UsageError: Before the first iteration, if the model has no expanded backbone, or what is asked for is not
            possible in this run.

    Example:
        >>> custom_hooks = [dict(type='mmscalenet.DepthHook', mode='grow', begin=0.75)]
    """

    def __init__(self, mode: str = 'grow', begin: float | None = None, end: float | None = None,
                 by_epoch: bool | None = None, depths: Sequence[int] | None = None, sandwich: bool = False,
                 seed: int = 0) -> None:
        if mode not in MODES:
            raise UsageError(f'DepthHook: mode={mode!r} is not allowed; allowed are {", ".join(map(repr, MODES))}.')
        for name, value, needed in (('end', end, 'ramp'), ('depths', depths, 'elastic'),
                                    ('sandwich', sandwich or None, 'elastic')):
            if value is not None and mode != needed:
                raise UsageError(f'DepthHook: {name}={value!r} goes with mode={needed!r}, and the mode is {mode!r}.')
        self.mode, self.begin, self.end, self.by_epoch = mode, begin, end, by_epoch
        self.depths, self.sandwich, self.seed = depths, sandwich, seed

    def before_train(self, runner: Runner) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        self.model, self.backbones = model, list(expanded_backbones(model).values())
        self._check_model(runner)
        depths = self._checked_depths()
        default = 0 if self.mode == 'elastic' else 0.75
        begin = self._iteration(runner, 'begin', default if self.begin is None else self.begin)
        end = self._iteration(runner, 'end', runner.max_iters if self.end is None else self.end,
                              scaled=self.end is not None)
        if begin == 0 and self.mode != 'elastic':
            raise UsageError(f'DepthHook: begin={self.begin!r} is the start of the run; a net that is grown from the '
                             'first iteration on needs no hook.')
        if begin >= runner.max_iters:
            raise UsageError(f'DepthHook: begin={self.begin!r} is iteration {begin}, and the run ends after '
                             f'{runner.max_iters}; let it begin earlier.')
        if not begin < end <= runner.max_iters:
            raise UsageError(f'DepthHook: end={self.end!r} is iteration {end}; allowed is what lies after begin '
                             f'(iteration {begin}) and not after the end of the run ({runner.max_iters}).')
        self.schedule = DepthSchedule(self.mode, depths, begin, end, self._iterations_of_a_step(runner), self.seed)
        self.settled = self.schedule.settled(runner.iter - 1)
        self._set(self.settled)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        if runner.iter == self.schedule.begin > 0:
            self._start_added(runner)
        self.settled = self.schedule.settled(runner.iter)
        depth = self.schedule.at(runner.iter)
        self._set(depth)
        runner.message_hub.update_scalar('train/depth', depth)

    def before_val_epoch(self, runner: Runner) -> None:
        if hasattr(self, 'schedule'):  # not where a model is validated alone
            self._set(self.settled)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if hasattr(self, 'schedule'):
            self._set(self.settled)
            keep_depth(self.model, checkpoint)

    def _set(self, depth: int) -> None:
        for backbone in self.backbones:
            backbone.set_depth(depth)

    def _start_added(self, runner: Runner) -> None:
        averages = [hook.ema_model for hook in runner.hooks if isinstance(hook, EMAHook)]
        for model in (self.model, *averages):
            for backbone in expanded_backbones(model).values():
                for positions in position_lists(backbone).values():
                    positions.start_added()
        runner.logger.info(f'DepthHook: from iteration {runner.iter + 1} on up to {self.schedule.depths[-1]} positions '
                           f'run, before it {self.schedule.depths[0]}')

    def _check_model(self, runner: Runner) -> None:
        if not self.backbones:
            raise UsageError(f'DepthHook: {type(self.model).__name__} has no expanded backbone, whose depth could '
                             "change; give it one of type='mmscalenet.ScaleNetDeiT' or 'mmscalenet.ScaleNetSwin', or "
                             'leave the hook out.')
        given = [backbone.chosen_depth for backbone in self.backbones if backbone.chosen_depth is not None]
        if given:
            raise UsageError(f'DepthHook: the backbone has depth={given[0]!r}, and the hook sets the depth too; give '
                             'one of them.')
        if not getattr(runner.model, 'find_unused_parameters', True):
            raise UsageError('DepthHook: positions that do not run get no gradient, and DistributedDataParallel would '
                             'wait for them; set find_unused_parameters=True in the config (tools/train.py does).')

    def _checked_depths(self) -> list[int]:
        known = self.backbones[0].runnable_depths()
        depths = sorted(known if self.depths is None else set(self.depths))
        wrong = [depth for depth in depths if depth not in known]
        if wrong:
            raise UsageError(f'DepthHook: depths={self.depths!r}: {wrong[0]!r} is not allowed; the net can run at '
                             f'{", ".join(map(str, known))}.')
        if len(depths) < 2:
            raise UsageError(f'DepthHook: {depths} is one depth, and nothing could change; '
                             + ('name two or more.' if self.depths else 'give the backbone a scale above 1.'))
        return depths

    def _iteration(self, runner: Runner, name: str, value: float, scaled: bool = True) -> int:
        """Epochs, iterations or a part of the run as a number of iterations."""
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0 or (
                isinstance(value, float) and value >= 1):
            raise UsageError(f'DepthHook: {name}={value!r} is not allowed; give a part of the run, a float in [0, 1), '
                             'or a number of epochs or iterations, an integer.')
        if isinstance(value, float):
            return math.floor(value * runner.max_iters + 1e-9)
        by_epoch = not isinstance(runner.train_loop, IterBasedTrainLoop) if self.by_epoch is None else self.by_epoch
        return value * len(runner.train_dataloader) if by_epoch and scaled else value

    def _iterations_of_a_step(self, runner: Runner) -> int:
        if not self.sandwich:
            return 0
        count = getattr(runner.optim_wrapper, '_accumulative_counts', 1)
        if count < 2:
            raise UsageError('DepthHook: sandwich=True trains the smallest and the largest depth in every step of the '
                             f'optimizer, which takes optim_wrapper.accumulative_counts of 2 or more; it is {count}.')
        return count
