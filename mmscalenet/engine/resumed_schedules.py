"""Schedules that a config has changed since the run that it resumes."""
from mmengine.optim import OptimWrapper
from mmengine.runner import EpochBasedTrainLoop, Runner

from .grown_schedules import replay
from .literals import read_variable

#: Of a scheduler's state: how far it has come, where all else is what the config says.
_PROGRESS = {'last_step', '_global_step', '_last_value', 'base_values', 'verbose'}
#: Of an optimizer's group: what schedulers change.
_SCHEDULED = {f'{start}{name}' for start in ('', 'initial_') for name in ('lr', 'momentum', 'betas')}


def take_new_schedules(runner: Runner, checkpoint: dict) -> str | None:
    """Have a resumed run follow the schedules of its config, from the iteration that it has reached.

    mmengine loads the states of the run's schedulers, and they bring its begin, end and milestones back, whatever the
    config says by now. Where that is something else, the new schedulers take the steps of the run, and their states and
    the values that they have come to take the place of the run's in the checkpoint. Another number of processes, which
    changes how many iterations an epoch has, changes nothing here.

    Args:
        runner (Runner): With schedulers at their start.
        checkpoint (dict): What is resumed, before it is loaded; it is changed.

    Returns:
        str | None: What could not be taken, and why.
    """
    schedulers, wrapper = runner.param_schedulers, runner.optim_wrapper
    states, meta = checkpoint.get('param_schedulers') or [], checkpoint.get('meta')
    is_run = isinstance(meta, dict) and {'epoch', 'iter'} <= meta.keys()  # weights alone are refused elsewhere
    if not is_run or not isinstance(schedulers, list) or not isinstance(wrapper, OptimWrapper) \
            or not _is_changed(runner, meta):
        return None
    if len(schedulers) == len(states) and all(map(_is_same, schedulers, states)):
        return None
    if any(getattr(scheduler, 'need_val_args', False) for scheduler in schedulers):
        return 'the new param_scheduler, of which one follows a metric'
    length = len(runner.train_dataloader) if isinstance(runner.train_loop, EpochBasedTrainLoop) else None
    checkpoint['param_schedulers'] = replay(schedulers, checkpoint, length)
    groups = (checkpoint.get('optimizer') or {}).get('param_groups', [])  # a run need not keep them
    for old, new in zip(groups, wrapper.optimizer.param_groups, strict=False):
        old.update({key: value for key, value in new.items() if key in _SCHEDULED})
    runner.logger.info('resume: the param_scheduler of the config is another than that of the run, and is taken from '
                       f'iteration {meta["iter"]} on')
    return None


def _is_changed(runner: Runner, meta: dict) -> bool:
    """Whether the config says something else than that of the run, which the checkpoint holds."""
    try:
        old = {name: read_variable(meta['cfg'], name) for name in ('param_scheduler', 'train_cfg')}
    except (KeyError, TypeError, SyntaxError, ValueError):  # not mmengine's, or of more than plain values
        return False
    new = runner.cfg.to_dict()
    limits = [{key: (cfg.get('train_cfg') or {}).get(key) for key in ('max_epochs', 'max_iters')} for cfg in (old, new)]
    return limits[0] != limits[1] or old['param_scheduler'] != new.get('param_scheduler')


def _is_same(scheduler: object, state: dict) -> bool:
    return all(value == state[key] for key, value in scheduler.state_dict().items()
               if key in state and key not in _PROGRESS)
