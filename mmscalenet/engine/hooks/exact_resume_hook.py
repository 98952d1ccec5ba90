"""Runs that end with the same bits, however often they were interrupted."""
from mmengine.dist import all_gather_object, gather_object
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner

from mmscalenet.registry import HOOKS

from ..errors import UsageError
from ..numbered_data import (
    ITERATION,
    VALIDATION,
    EndlessBatches,
    number_data,
    restore_sampler_seed,
    sampler_seed,
    seed_generators,
)
from ..process_state import (
    is_within_step,
    optim_wrappers,
    out_of_reach,
    own_state,
    restore_own_state,
    without_shared,
)
from ..resumed_schedules import take_new_schedules

#: In a checkpoint: what :class:`ExactResumeHook` notes in ``meta``, and what each process has of its own.
NOTE, PROCESSES = 'exact_resume', 'processes'


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """A resumed run ends with the weights and curves, bit for bit, of the run that was never interrupted.

    - Random numbers: the generators of Python, numpy and torch (GPUs too) are seeded for each iteration from the seed
      of the run and the iteration's number, and for each sample from its place in the run. So nothing depends on what
      a process or a data worker did before, and no state of them has to be kept.
    - Data: a checkpoint notes the epoch and the batch in it; a resumed run begins there, without loading what comes
      before.
    - Schedules: those of the config, also where it has changed them since, as for a run that is prolonged.
    - Gradients of a step of the optimizer that is not complete (``accumulative_counts``) are in the checkpoint, as is
      what running statistics of norms differ by between processes. Of several processes :class:`WholeCheckpointHook`
      has them gathered, which tools/train.py puts in the place of mmengine's ``CheckpointHook``.

    The hook has to be there from the run's start. What it cannot restore it says, in one line.

    Raises:
        UsageError: Before the first iteration, if processes would begin at different places of the run.

    Example:
        >>> custom_hooks = [dict(type='mmscalenet.ExactResumeHook')]
    """

    priority = 'HIGHEST'  # seeds before any other hook draws

    def __init__(self) -> None:
        self.started = self.resumed = False
        self.states, self.lost = None, []

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        self.resumed = runner._resume
        kept = take_new_schedules(runner, checkpoint) if self.resumed else None
        self.lost = [kept] if kept else []
        self.note = (checkpoint.get('meta') or {}).get(NOTE) or {}
        self.loaded = checkpoint.pop(PROCESSES, None)

    def before_train(self, runner: Runner) -> None:
        _check_agreement(runner)
        loop, loader = runner.train_loop, runner.train_dataloader
        self.started, self.place, self.start = True, None, 0
        if self.resumed:
            restore_sampler_seed(loader, self.note.get('sampler_seed'))
        self.batches = number_data(loader, runner.seed, runner.rank)
        place = self._resume(runner) if self.resumed else (0, 0)
        if place and self.batches and isinstance(loop, IterBasedTrainLoop):
            loop.fast_forward_on_resume = False  # nothing is loaded that time could be saved on
            loop.dataloader_iterator = EndlessBatches(loader, *place, passed=loop.iter)
        elif place and place[0] == runner.epoch:
            self.start = place[1]
        if self.resumed and loop.iter >= (getattr(loop, 'max_iters', None) or float('inf')):
            runner.logger.warning(f'resume: the run is at its end, iteration {loop.iter} of {loop.max_iters}, and '
                                  'nothing is left to train. To train on, give it a longer train_cfg, and a schedule '
                                  'for it.')
        if self.lost:
            runner.logger.warning('resume: this run will differ from one that was never interrupted. Not restored: '
                                  f'{"; ".join(self.lost)}.')

    def before_train_epoch(self, runner: Runner) -> None:
        if self.batches and isinstance(runner.train_loop, EpochBasedTrainLoop):
            self.batches.epoch, self.batches.start = runner.epoch, self.start
            _count_from(runner.train_loop, self.start)
            if self.start == len(runner.train_dataloader):  # all is done but what ends an epoch, which tells the last
                runner.message_hub.update_info('iter', runner.iter - 1)
            self.start = 0

    def after_train_epoch(self, runner: Runner) -> None:
        vars(runner.train_loop).pop('run_iter', None)  # back to that of the class

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        seed_generators(runner.seed, ITERATION, runner.iter)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None,
                         outputs: dict | None = None) -> None:
        iterator = getattr(runner.train_loop, 'dataloader_iterator', None)
        if isinstance(iterator, EndlessBatches):
            self.place = (iterator.epoch, iterator.batch)
        elif isinstance(runner.train_loop, EpochBasedTrainLoop):
            self.place = (runner.epoch, batch_idx + 1)

    def before_val_epoch(self, runner: Runner) -> None:
        if self.started:  # not where a model is validated alone
            seed_generators(runner.seed, VALIDATION, runner.iter)

    def gather_for_checkpoint(self, runner: Runner) -> None:
        """Called by :class:`WholeCheckpointHook` in all processes; ``before_save_checkpoint`` is in one."""
        self.states = gather_object(own_state(runner), dst=0)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        states, self.states = self.states, None
        if not self.started or 'optimizer' not in checkpoint:  # no run goes on from it
            return
        checkpoint['meta'][NOTE] = dict(
            place=self.place, data=self.batches and _data(runner), sampler_seed=sampler_seed(runner.train_dataloader),
            counts=[wrapper._inner_count for wrapper in optim_wrappers(runner)])
        if states is None and runner.world_size == 1:
            states = [own_state(runner)]
        if states:
            checkpoint[PROCESSES] = without_shared(states)

    def _resume(self, runner: Runner) -> tuple[int, int] | None:
        """Restore all but the place in the data, which is returned if it is known."""
        if kept := out_of_reach(runner):
            self.lost.append(f'what {", ".join(kept)} kept from earlier iterations')
        if runner.world_size > 2 and not getattr(runner.model, 'find_unused_parameters', True):
            # DistributedDataParallel puts them into other buckets after its first step
            self.lost.append(f'the order in which the gradients of {runner.world_size} processes are summed in the '
                             'first step (find_unused_parameters=True in the config, or in the model_wrapper of '
                             'a DDPStrategy, keeps it from the start)')
        if not self.note:
            self.lost.append('the random numbers and the place in the data, which a run without ExactResumeHook, or '
                             'of an older version, does not note')
            return None
        for wrapper, count in zip(optim_wrappers(runner), self.note['counts'], strict=False):
            wrapper._inner_count = count
        states, self.loaded = self.loaded, None
        if states and len(states) == runner.world_size:
            restore_own_state(runner, states[runner.rank])
            if states[runner.rank]['gradients']:
                runner.logger.info('resume: the gradients of an incomplete step are restored, whatever was said before')
        elif runner.world_size > 1:
            self.lost.append('what each process has of its own, gradients of an incomplete step and running '
                             'statistics, which the checkpoint does not hold for as many processes')
        elif is_within_step(runner):
            self.lost.append('the gradients of an incomplete step, which the checkpoint does not hold')

        place, before = self.note['place'], self.note['data'] or {}
        if self.batches is None:
            self.lost.append('the place in the data and its random numbers, as the loader has no batches of indices')
        elif other := [f'{name}={before.get(name)} ({value} now)' for name, value in _data(runner).items()
                       if before.get(name) != value]:
            self.lost.append(f'the place in the data and its random numbers, as the run had {", ".join(other)}')
        elif place is None:
            self.lost.append('the place in the data, which is known for loops of epochs or iterations alone')
        else:
            self.place = tuple(place)
        return self.place


def _check_agreement(runner: Runner) -> None:
    """Each process looks for the last checkpoint itself, in a work directory that machines may not share."""
    places = all_gather_object((runner._resume, runner.epoch, runner.iter))
    if len({*places}) > 1:
        said = ', '.join(f'process {rank} at iteration {place[2]}' for rank, place in enumerate(places))
        raise UsageError(f'the processes would go on from different checkpoints ({said}): they have to see the same '
                         'work directory. Share it between the machines, or copy the checkpoint to each and give it '
                         'with --resume PATH.')


def _data(runner: Runner) -> dict[str, object]:
    """What a place in the data means."""
    loader = runner.train_dataloader
    return dict(loop=type(runner.train_loop).__name__, processes=runner.world_size,
                batch_size=getattr(loader.batch_sampler, 'batch_size', None), samples=len(loader.dataset))


def _count_from(loop: EpochBasedTrainLoop, start: int) -> None:
    """Have the loop count the batches of this epoch from ``start``: loggers go by that number."""
    if start:
        run_iter = loop.run_iter
        loop.run_iter = lambda index, batch: run_iter(index + start, batch)
