"""The rest of a run in fewer, dearer steps: what a grown net gets for the FLOPs that its base would take."""
import copy
import math
import re
from collections.abc import Iterator

from mmengine.config import Config

from .cli import full_type, short_type
from .errors import UsageError
from .grown_schedules import epoch_length

#: Those that change a value step by step from ``begin`` to ``end``.
_BETWEEN = ('Linear', 'CosineAnnealing', 'Poly', 'Constant')
#: What class names of schedules end with.
_KINDS = r'(LR|Momentum|ParamScheduler)$'


class SameFlops:
    """Length and schedule with which the rest of a run costs what the base's rest would have cost.

    What lies behind the iteration that the run has reached moves towards it by the same factor: the end of the run, and
    begins, ends and milestones of schedules, so that a decay remains the same part of the rest.

    Args:
        cfg (Config): The config of the base, with the length and the schedules of its run.
        run (dict): What the run's checkpoint holds.
        cost (float): FLOPs of a step of the grown net, in those of a step of the base.

    Raises:
        UsageError: If the run is at its end, its rest pays for no step of the grown net, or a learning rate falls
            already: a net grows in a phase of constant rate, before one decay (arXiv 2511.04981).
        ResumeError: If the checkpoint does not say how long an epoch is.
    """

    def __init__(self, cfg: Config, run: dict, cost: float) -> None:
        self.cfg, self.length = cfg, epoch_length(cfg, run)
        unit, self.limit = ('epoch', 'max_epochs') if self.length else ('iteration', 'max_iters')
        total = cfg.train_cfg[self.limit] * (self.length or 1)
        self.now = run['meta']['iter']
        left = total - self.now
        if left <= 0:
            raise UsageError('the run is at its end, and nothing is left to spend on a grown net.')
        # whole epochs, and not more than the base's
        end = math.floor((self.now + left / cost) / self.length + 1e-6) * self.length if self.length \
            else self.now + round(left / cost)
        if end <= self.now:
            raise UsageError(f'what is left of the run, {left} iterations, does not pay for one {unit} of the '
                             f'grown net, whose steps cost {cost:.2f} times as much. Grow earlier, or by less.')
        self.total, self.end = total, end
        #: What the grown net spends of what the base would.
        self.spent = (end - self.now) * cost / left

    @property
    def settings(self) -> dict:
        """What the config of the grown net has to say."""
        settings = dict(train_cfg={self.limit: self.end // (self.length or 1)})
        given = self.cfg.get('param_scheduler')
        if given is not None:
            given = [given] if isinstance(given, dict) else given
            settings['param_scheduler'] = [self._moved(i, one.to_dict()) for i, one in enumerate(given)]
        return settings

    def unmoved(self) -> Iterator[str]:
        """Numbers of hooks that may be meant for the old rest, by dotted names."""
        hooks = [(f'custom_hooks.{i}', hook) for i, hook in enumerate(self.cfg.get('custom_hooks') or [])]
        for name, hook in [*hooks, ('train_cfg', self.cfg.train_cfg)]:
            for key, value in hook.items():
                length = 1 if 'iter' in key or not self.length else self.length
                if type(value) is int and self.now < value * length < self.total:
                    yield f'{name}.{key}={value}'

    def smoothed(self) -> Iterator[str]:
        """Schedules that change a value from epoch to epoch, and in the shorter run from iteration to iteration."""
        given = self.cfg.get('param_scheduler') or []
        for index, one in enumerate([given] if isinstance(given, dict) else given):
            in_epochs = self.length and one.get('by_epoch', True) and not one.get('convert_to_iter_based')
            if in_epochs and _kind(one) in _BETWEEN and _kind(one) != 'Constant' \
                    and one.get('end', math.inf) * self.length > self.now:
                yield f'param_scheduler.{index}'

    def _moved(self, index: int, given: dict) -> dict:
        """A schedule whose rest is shorter."""
        kind = _kind(given)
        by_epoch = given.get('by_epoch', True)
        if by_epoch and not self.length:
            return given  # never taken, as no epoch ends
        step = self.length if by_epoch else 1  # in iterations
        begin, end = given.get('begin', 0) * step, given.get('end', self.total / step) * step
        if end <= self.now:
            return given
        moved = copy.deepcopy(given)
        if by_epoch:  # whole epochs of a shorter rest could put a milestone at its end
            moved.pop('convert_to_iter_based', None)
            moved['by_epoch'] = False
        if kind == 'MultiStep':
            moved['milestones'] = [self._at(begin + one * step) - self._at(begin) for one in given['milestones']]
        elif kind not in _BETWEEN or begin < self.now and kind != 'Constant':
            raise UsageError(
                f'param_scheduler.{index}, {full_type(given)} of {begin:g} to {end:g}, changes the rate already at '
                f'iteration {self.now}, where the net grows, or cannot be moved. A net grows in a phase of constant '
                'rate, before one decay: train the base with such a schedule, as in '
                'configs/_base_/schedules/wsd_160k.py (iterations) or wsd_12e.py (epochs).')
        for key, value in (('begin', begin), ('end', end)):
            if key in given:
                moved[key] = self._at(value)
        if 'T_max' in given:
            moved['T_max'] = self._at(end) - self._at(begin)
        return moved

    def _at(self, iteration: float) -> int:
        """The iteration of the shorter run at which something lies; inside it if it lay inside the base's."""
        if iteration <= self.now:
            return round(iteration)
        place = round(self.now + (iteration - self.now) * (self.end - self.now) / (self.total - self.now))
        return min(place, self.end - 1) if iteration < self.total else place


def _kind(schedule: dict) -> str:
    """E.g. 'MultiStep' of a MultiStepLR."""
    return re.sub(_KINDS, '', short_type(schedule))
