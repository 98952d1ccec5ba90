"""Depth that changes while a net is trained."""
import math
from collections.abc import Sequence
from copy import deepcopy

from mmengine.hooks import EMAHook, Hook
from mmengine.runner import IterBasedTrainLoop, Runner
from torch.distributed.optim import ZeroRedundancyOptimizer

from mmscalenet.checkpoints.growth_notes import PLACES, STARTED, is_before_growth
from mmscalenet.registry import HOOKS

from ..depth import added_are_trained, expanded_backbones, keep_depth, start_added
from ..depth_schedule import DepthSchedule
from ..errors import UsageError
from ..model_of import model_of
from ..process_state import optim_wrappers

MODES = ('grow', 'ramp', 'elastic')


@HOOKS.register_module()
class DepthHook(Hook):
    """Set how many positions of the expanded backbone run, iteration by iteration.

    ``grow``: the base's depth until ``begin``, the full one from there on. Growth wants to come late, once, before the
    learning rate decays (arXiv 2511.04981). ``ramp``: from ``begin`` on the full depth with a chance that rises to 1 at
    ``end``, all or none of the added positions in an iteration, so that compute is saved (stochastic depth, arXiv
    1603.09382, of the added part). ``elastic``: a depth drawn for every iteration from ``begin`` on, so that one set of
    weights runs at every depth (slimmable networks, arXiv 1812.08928).

    Blocks keep their moments, and what a position owns neither moves nor decays before it runs. Norms and copies of
    blocks that added positions own start, at ``begin``, from the weights that the blocks have then, and from their
    moments (not with ``ZeroRedundancyOptimizer``), unless ``load_from`` or ``init_cfg`` has brought trained ones. The
    depth is logged as ``depth``. Evaluations run, and checkpoints are tested, at the base's depth before ``begin`` and
    at the largest that is trained after.

    Args:
        mode (str): 'grow', 'ramp' or 'elastic'. Defaults to 'grow'.
        begin (float | int, optional): A float below 1 is a part of the run, an integer a number of epochs or
            iterations. Defaults to None: 0.75; with 'elastic' 0.
        end (float | int, optional): For 'ramp': where the chance is 1. Defaults to None: the end of the run.
        by_epoch (bool, optional): Whether integers count epochs, which a run has to count then. Defaults to None:
            where the run counts them.
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

    priority = 'HIGHEST'  # before StartWeightsHook fills up what was loaded, and notes the depth

    def __init__(self, mode: str = 'grow', begin: float | None = None, end: float | None = None,
                 by_epoch: bool | None = None, depths: Sequence[int] | None = None, sandwich: bool = False,
                 seed: int = 0) -> None:
        if mode not in MODES:
            raise UsageError(f'DepthHook: mode={mode!r} is not allowed; allowed are {", ".join(map(repr, MODES))}.')
        for name, value, needed in (('end', end, 'ramp'), ('depths', depths, 'elastic'),
                                    ('sandwich', sandwich or None, 'elastic')):
            if value is not None and mode != needed:
                raise UsageError(f'DepthHook: {name}={value!r} goes with mode={needed!r}, and the mode is {mode!r}.')
        if not isinstance(sandwich, bool):
            raise UsageError(f'DepthHook: sandwich={sandwich!r} is not allowed; give True or False.')
        self.mode, self.begin, self.end, self.by_epoch = mode, begin, end, by_epoch
        self.depths, self.sandwich, self.seed = depths, sandwich, seed
        self.was_before_growth = False

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        self.was_before_growth = is_before_growth(checkpoint)

    def before_train(self, runner: Runner) -> None:
        model = model_of(runner)
        self.model, self.backbones = model, list(expanded_backbones(model).values())
        self._check_model(runner)
        known = self._known_depths()
        depths = self._checked_depths(known)
        default = 0 if self.mode == 'elastic' else 0.75
        begin = self._iteration(runner, 'begin', default if self.begin is None else self.begin)
        end = self._iteration(runner, 'end', runner.max_iters if self.end is None else self.end,
                              scaled=self.end is not None)
        begin, end = self._kept(runner, begin, end)
        if begin == 0 and self.mode != 'elastic':
            raise UsageError(f'DepthHook: begin={self.begin!r} is the start of the run; a net that is grown from the '
                             'first iteration on needs no hook.')
        if begin >= runner.max_iters:
            raise UsageError(f'DepthHook: begin={self.begin!r} is iteration {begin}, and the run ends after '
                             f'{runner.max_iters}; let it begin earlier.')
        if not begin < end <= runner.max_iters:
            raise UsageError(f'DepthHook: end={self.end!r} is iteration {end}; allowed is what lies after begin '
                             f'(iteration {begin}) and not after the end of the run ({runner.max_iters}).')
        self.schedule = DepthSchedule(self.mode, known[0], known[-1], begin, end, depths,
                                      self._iterations_of_a_step(runner), self.seed)
        # nothing can have changed before it, or what was loaded is of a grown net and not to be replaced
        if begin == 0 or not (runner._resume or self.was_before_growth) and added_are_trained(model):
            runner.message_hub.update_info(STARTED, True)
        self.settled = self.schedule.settled(runner.iter - 1)
        self._set(self.settled)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        if runner.iter >= self.schedule.begin and not runner.message_hub.runtime_info.get(STARTED):
            self._start_added(runner)
        self.settled = self.schedule.settled(runner.iter)
        depth = self.schedule.at(runner.iter)
        self._set(depth)
        runner.message_hub.update_scalar('train/depth', depth)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None,
                         outputs: dict | None = None) -> None:
        self._set(self.settled)  # for evaluations, and for hooks that run the model, as mmpretrain's PreciseBNHook

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        keep_depth(model_of(runner), checkpoint)

    def _kept(self, runner: Runner, begin: int, end: int) -> tuple[int, int]:
        """Where it began, if it has: a part of a run that is prolonged lies elsewhere, and a net does not shrink."""
        known = runner.message_hub.runtime_info.get(PLACES) if runner._resume else None
        if known and runner.iter > known[0]:
            if known[0] != begin:
                runner.logger.info(f'DepthHook: the net has grown at iteration {known[0]} already, and stays so')
            begin, end = known[0], min(known[1], runner.max_iters)  # which may have been shortened
        runner.message_hub.update_info(PLACES, (begin, end))
        return begin, end

    def _set(self, depth: int) -> None:
        for backbone in self.backbones:
            backbone.set_depth(depth)

    def _start_added(self, runner: Runner) -> None:
        for hook in runner.hooks:
            if isinstance(hook, EMAHook):
                start_added(hook.ema_model)
        pairs = list(start_added(self.model))
        for wrapper in optim_wrappers(runner):
            optimizer = wrapper.optimizer
            if isinstance(optimizer, ZeroRedundancyOptimizer):  # a process may have the one and not the other
                continue
            known = {parameter for group in optimizer.param_groups for parameter in group['params']}
            optimizer.state.update({own: deepcopy(optimizer.state[source]) for own, source in pairs
                                    if source in optimizer.state and own in known})
        runner.message_hub.update_info(STARTED, True)  # which checkpoints hold
        runner.logger.info(f'DepthHook: from iteration {runner.iter + 1} on up to {self.schedule.full} positions run, '
                           f'before it {self.schedule.base}')

    def _check_model(self, runner: Runner) -> None:
        if sum(isinstance(hook, DepthHook) for hook in runner.hooks) > 1:
            raise UsageError('DepthHook: custom_hooks has more than one, and each would undo what the other does.')
        if not self.backbones:
            raise UsageError(f'DepthHook: {type(self.model).__name__} has no expanded backbone, whose depth could '
                             "change; give it one of type='mmscalenet.ScaleNet' (ScaleNetDeiT, ScaleNetSwin), or "
                             'leave the hook out.')
        given = [backbone.chosen_depth for backbone in self.backbones if backbone.chosen_depth is not None]
        if given:
            raise UsageError(f'DepthHook: the backbone has depth={given[0]!r}, and the hook sets the depth too; give '
                             'one of them.')
        if not getattr(runner.model, 'find_unused_parameters', True):
            raise UsageError('DepthHook: positions that do not run get no gradient, and DistributedDataParallel would '
                             'wait for them; set find_unused_parameters=True in the config, or with a DDPStrategy in '
                             'its model_wrapper (tools/train.py does).')

    def _known_depths(self) -> list[int]:
        known, *others = [backbone.runnable_depths() for backbone in self.backbones]
        if any(other != known for other in others):
            raise UsageError(f'DepthHook: the model has backbones of other depths, {known} and {others[0]}, which one '
                             'hook cannot set alike.')
        if len(known) < 2:
            raise UsageError(f'DepthHook: {known} is one depth, and nothing could change; give the backbone a scale '
                             'above 1.')
        return known

    def _checked_depths(self, known: list[int]) -> list[int]:
        if self.depths is None:
            return known
        given = list(self.depths) if isinstance(self.depths, (list, tuple)) else [self.depths]
        wrong = [depth for depth in given if type(depth) is not int or depth not in known]
        if wrong:
            raise UsageError(f'DepthHook: depths={self.depths!r}: {wrong[0]!r} is not allowed; the net can run at '
                             f'{", ".join(map(str, known))}, all stages of a Swin together.')
        if len(set(given)) < 2:
            raise UsageError(f'DepthHook: depths={self.depths!r} is one depth, and nothing could change; name two or '
                             'more.')
        return sorted(set(given))

    def _iteration(self, runner: Runner, name: str, value: float, scaled: bool = True) -> int:
        """Epochs, iterations or a part of the run as a number of iterations."""
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0 or (
                isinstance(value, float) and value >= 1):
            raise UsageError(f'DepthHook: {name}={value!r} is not allowed; give a part of the run, a float in [0, 1), '
                             'or a number of epochs or iterations, an integer.')
        if isinstance(value, float):
            return math.floor(value * runner.max_iters + 1e-9)
        counts_iterations = isinstance(runner.train_loop, IterBasedTrainLoop)
        if self.by_epoch and counts_iterations:
            raise UsageError('DepthHook: by_epoch=True in a run that counts iterations, whose epochs have no end; give '
                             f'{name} in iterations.')
        by_epoch = not counts_iterations if self.by_epoch is None else self.by_epoch
        return value * len(runner.train_dataloader) if by_epoch and scaled else value

    def _iterations_of_a_step(self, runner: Runner) -> int:
        if not self.sandwich:
            return 0
        count = getattr(runner.optim_wrapper, '_accumulative_counts', 1)
        if count < 2:
            raise UsageError('DepthHook: sandwich=True trains the smallest and the largest depth in every step of the '
                             f'optimizer, which takes optim_wrapper.accumulative_counts of 2 or more; it is {count}.')
        return count
