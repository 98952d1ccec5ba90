"""Runs that end with the same bits, however often they were interrupted."""
import torch
from mmengine.dist import gather_object
from mmengine.hooks import EarlyStoppingHook, EMAHook, Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch import Tensor, nn

from mmscalenet.registry import HOOKS

from ..numbered_data import ITERATION, VALIDATION, EndlessBatches, NumberedBatches, number_data, seed_generators

#: In a checkpoint: what :class:`ExactResumeHook` notes in ``meta``, and what each process has of its own.
NOTE, RANKS = 'exact_resume', 'ranks'


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """A resumed run ends with the weights and curves, bit for bit, of the run that was never interrupted.

    - Random numbers: the generators of Python, numpy and torch (GPUs too) are seeded for each iteration from the seed
      of the run and the iteration's number, and for each sample from its place in the run. So nothing depends on what
      a process or a data worker did before, and no state of them has to be kept.
    - Data: a checkpoint notes the epoch and the batch in it; a resumed run begins there, without loading what comes
      before.
    - Gradients of a step of the optimizer that is not complete (``accumulative_counts``) are in the checkpoint, as is
      what buffers (running statistics of norms) differ by between processes. In several processes it takes
      :class:`WholeCheckpointHook`, which tools/train.py puts in the place of mmengine's.

    The hook has to be there from the run's start. What it cannot restore it says, in one line.

    Example:
        >>> custom_hooks = [dict(type='mmscalenet.ExactResumeHook')]
    """

    priority = 'HIGHEST'  # seeds before any other hook draws

    def __init__(self) -> None:
        self.started = self.resumed = False
        self.ranks = None

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        self.resumed = runner._resume
        self.note = (checkpoint.get('meta') or {}).get(NOTE) or {}
        self.kept = checkpoint.pop(RANKS, None)

    def before_train(self, runner: Runner) -> None:
        loop, loader = runner.train_loop, runner.train_dataloader
        self.started, self.start, self.place, self.lost = True, 0, None, []
        if self.resumed and self.note:
            _restore_seed(loader, self.note.get('sampler_seed'))
        self.batches = number_data(loader, runner.seed, runner.rank)
        place = (0, 0)
        if self.resumed and not self.note:
            self.lost.append('random numbers and the place in the data, which a run without ExactResumeHook (or an '
                             'older version) does not write down')
        elif self.resumed:
            self._restore_of_ranks(runner)
            place = self._restored_place(runner)
        if place and self.batches and isinstance(loop, IterBasedTrainLoop):
            loop.fast_forward_on_resume = False  # nothing is loaded that time could be saved on
            loop.dataloader_iterator = EndlessBatches(loader, *place, passed=loop.iter)
        elif place and place[0] == runner.epoch:
            self.start = place[1]
        if self.resumed and any(isinstance(hook, EarlyStoppingHook) for hook in runner.hooks):
            self.lost.append('what EarlyStoppingHook has counted')
        if self.lost:
            runner.logger.warning(f'resume: this run will differ from one that was never interrupted. Not restored: '
                                  f'{"; ".join(self.lost)}.')

    def before_train_epoch(self, runner: Runner) -> None:
        if self.batches and isinstance(runner.train_loop, EpochBasedTrainLoop):
            self.batches.epoch, self.batches.start = runner.epoch, self.start
            _count_from(runner.train_loop, self.start)
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
        self.ranks = gather_object(_of_this_rank(runner), dst=0)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        ranks, self.ranks = self.ranks, None
        if not self.started or 'optimizer' not in checkpoint:  # no run goes on from it
            return
        if ranks is None and runner.world_size == 1:
            ranks = [_of_this_rank(runner)]
        checkpoint['meta'][NOTE] = dict(
            place=self.place, data=self.batches and _data(runner), sampler_seed=_seed_of(runner.train_dataloader),
            counts=[part._inner_count for part in _optim_wrappers(runner)])
        if ranks:
            for other in ranks[1:]:
                other['buffers'] = {name: value for name, value in other['buffers'].items()
                                    if not torch.equal(value, ranks[0]['buffers'][name])}
            ranks[0]['buffers'] = {}  # in state_dict
            checkpoint[RANKS] = ranks

    def _restored_place(self, runner: Runner) -> tuple[int, int] | None:
        place, before = self.note.get('place'), self.note.get('data') or {}
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
        return None

    def _restore_of_ranks(self, runner: Runner) -> None:
        wrappers, counts = _optim_wrappers(runner), self.note.get('counts')
        kept = self.kept[runner.rank] if self.kept and len(self.kept) == runner.world_size else None
        if counts and len(counts) == len(wrappers):
            for wrapper, count in zip(wrappers, counts, strict=True):
                wrapper._inner_count = count
        if kept is None:
            if runner.world_size > 1:
                self.lost.append('what each process has of its own (gradients of an incomplete step, running '
                                 'statistics), which the checkpoint does not hold for as many')
            elif any(map(_is_within_step, wrappers)):
                self.lost.append('the gradients of an incomplete step, which the checkpoint does not hold')
            return
        pairs = [(parameter, kept['gradients'][name].to(parameter.device))
                 for name, parameter in _model(runner).named_parameters() if name in kept['gradients']]
        if pairs:  # not by .grad = ...: DistributedDataParallel has to note that the parameters were used
            torch.autograd.backward(*zip(*pairs, strict=True))
        buffers = _buffers(runner)
        for name, value in kept['buffers'].items():
            buffers[name].copy_(value)
        if kept['gradients']:
            runner.logger.info('resume: the gradients of an incomplete step are restored, whatever was said before')


def _model(runner: Runner) -> nn.Module:
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def _optim_wrappers(runner: Runner) -> list[OptimWrapper]:
    wrapper = runner.optim_wrapper
    wrappers = wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]
    return [part for part in wrappers if isinstance(part, OptimWrapper)]


def _is_within_step(wrapper: OptimWrapper) -> bool:
    return wrapper._inner_count % wrapper._accumulative_counts != 0 and wrapper._inner_count != wrapper._max_counts


def _of_this_rank(runner: Runner) -> dict[str, dict[str, Tensor]]:
    """What a process has of its own: the gradients of a step that is not complete, and buffers."""
    gradients = {}
    if any(map(_is_within_step, _optim_wrappers(runner))):
        gradients = {name: parameter.grad.cpu() for name, parameter in _model(runner).named_parameters()
                     if parameter.grad is not None}
    buffers = _buffers(runner) if runner.world_size > 1 else {}
    return dict(gradients=gradients, buffers={name: value.cpu() for name, value in buffers.items()})


def _buffers(runner: Runner) -> dict[str, Tensor]:
    """The buffers that change in training and are not the same in all processes: running statistics of norms."""
    models = [_model(runner), *(hook.ema_model for hook in runner.hooks if isinstance(hook, EMAHook))]
    return {f'{number}.{name}': value for number, model in enumerate(models) for name, value in model.named_buffers()
            if value.is_floating_point()}


def _data(runner: Runner) -> dict[str, object]:
    """What a place in the data means."""
    loader = runner.train_dataloader
    batches = loader.batch_sampler
    return dict(loop=type(runner.train_loop).__name__, processes=runner.world_size,
                batch_size=getattr(batches, 'batch_size', None), samples=len(loader.dataset))


def _seeded_sampler(loader: object):
    batches = getattr(loader, 'batch_sampler', None)
    return next((part for part in (batches, getattr(batches, 'sampler', None), getattr(loader, 'sampler', None))
                 if type(getattr(part, 'seed', None)) is int and not isinstance(part, NumberedBatches)), None)


def _seed_of(loader: object) -> int | None:
    sampler = _seeded_sampler(loader)
    return None if sampler is None else sampler.seed


def _restore_seed(loader: object, seed: int | None) -> None:
    """Where the config has no seed, mmengine builds the sampler before it knows that of the run."""
    sampler = _seeded_sampler(loader)
    if seed is not None and sampler is not None and sampler.seed != seed:
        sampler.seed = seed
        if hasattr(sampler, '_indices_of_rank'):  # InfiniteSampler, of which mmengine takes the first at once
            sampler.indices = sampler._indices_of_rank()


def _count_from(loop: EpochBasedTrainLoop, start: int) -> None:
    """Have the loop count the batches of this epoch from ``start``: loggers go by that number."""
    if start:
        run_iter = loop.run_iter
        loop.run_iter = lambda index, batch: run_iter(index + start, batch)
