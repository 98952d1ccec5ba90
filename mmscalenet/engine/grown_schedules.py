"""The schedules of a config, brought to the iteration that a run has reached."""
import copy
import warnings

from mmengine.config import Config
from mmengine.optim import OptimWrapper, _ParamScheduler
from mmengine.registry import PARAM_SCHEDULERS

from .errors import ResumeError


def grow_schedules(cfg: Config, run: dict, wrapper: OptimWrapper) -> list[dict] | None:
    """The states that the schedulers of ``cfg`` have at the iteration of a run; the groups are set to their values.

    The run's own states would bring their begin, end and milestones back, whatever the config says. So the schedulers
    are built as a runner builds them and take the run's steps, in its order.

    Args:
        cfg (Config): Config of what goes on.
        run (dict): What the run's checkpoint holds.
        wrapper (OptimWrapper): The new optimizer, at the start of its schedules.

    Returns:
        list[dict] | None: A state for each scheduler; None if the config has none.

    Raises:
        ResumeError: If a scheduler follows a metric, or iterations and epochs of the run cannot be told apart.
    """
    given = cfg.get('param_scheduler')
    if given is None:
        return None
    length = epoch_length(cfg, run)
    schedulers = [_build(part, cfg, wrapper, length) for part in ([given] if isinstance(given, dict) else given)]
    return replay(schedulers, run, length)


def replay(schedulers: list[_ParamScheduler], run: dict, length: int | None) -> list[dict]:
    """The states that new schedulers have at the iteration of a run, whose steps they take in its order.

    Args:
        schedulers (list[_ParamScheduler]): At their start.
        run (dict): What the run's checkpoint holds.
        length (int | None): Iterations of an epoch; None where the loop counts iterations.
    """
    epochs, iterations = run['meta']['epoch'], run['meta']['iter']
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'Detected call of `scheduler.step', UserWarning)  # of no optimizer's step
        for iteration in range(1, iterations + 1):
            _step(schedulers, by_epoch=False)
            if length and iteration % length == 0 and iteration // length <= epochs:
                _step(schedulers, by_epoch=True)
    return [scheduler.state_dict() for scheduler in schedulers]


def epoch_length(cfg: Config, run: dict) -> int | None:
    """Iterations of an epoch, None where the loop counts iterations."""
    if 'max_epochs' not in cfg.train_cfg:
        return None
    known = run['message_hub']['runtime_info']
    if not (known.get('max_epochs') and known.get('max_iters')):
        raise ResumeError('the checkpoint does not say how many iterations an epoch of its run has, as that had no '
                         'RuntimeInfoHook. Start a new run with load_from')
    return known['max_iters'] // known['max_epochs']


def _build(given: dict, cfg: Config, wrapper: OptimWrapper, length: int | None) -> _ParamScheduler:
    given = copy.deepcopy(given)
    if given.get('convert_to_iter_based') and length is None:
        raise ResumeError(f'param_scheduler {given["type"]}: convert_to_iter_based needs a train_cfg with max_epochs')
    train = cfg.train_cfg
    by_epoch = train.max_epochs if length else 1
    by_iteration = train.max_epochs * length if length else train.max_iters
    given.setdefault('end', by_epoch if given.get('by_epoch', True) else by_iteration)
    scheduler = PARAM_SCHEDULERS.build(given, default_args=dict(optimizer=wrapper, epoch_length=length))
    if getattr(scheduler, 'need_val_args', False):
        raise ResumeError(f'param_scheduler {given["type"]} follows a metric, and cannot be brought to an iteration. '
                         'Take another, or start a new run with load_from')
    return scheduler


def _step(schedulers: list[_ParamScheduler], by_epoch: bool) -> None:
    for scheduler in schedulers:
        if scheduler.by_epoch is by_epoch:
            scheduler.step()
