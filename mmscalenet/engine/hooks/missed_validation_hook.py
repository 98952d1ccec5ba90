"""The validation that a kill came before."""
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmscalenet.registry import HOOKS

#: In a checkpoint's ``meta``: the iteration at which the run was validated last.
VALIDATED = 'validated'


@HOOKS.register_module()
class MissedValidationHook(Hook):
    """A resumed run begins with the validation that its checkpoint was written right before.

    mmengine goes on with the next epoch. Then a point of the curve is missing, and a best checkpoint may be, and what
    follows the metric (``ReduceOnPlateauLR``) is one step behind.

    Example:
        >>> custom_hooks = [dict(type='mmscalenet.MissedValidationHook')]
    """

    priority = 'LOWEST'  # all other hooks are ready for a validation

    def __init__(self) -> None:
        self.validated, self.known, self.counts = 0, True, {}

    def before_val_epoch(self, runner: Runner) -> None:
        # not after it: then CheckpointHook has already written that there is a new best
        self.validated = runner.iter

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        checkpoint['meta'][VALIDATED] = self.validated

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if runner._resume:
            meta = checkpoint.get('meta') or {}
            self.validated, self.known = meta.get(VALIDATED, 0), VALIDATED in meta
            told = (checkpoint.get('message_hub') or {}).get('runtime_info') or {}
            self.counts = {name: told[name] for name in ('epoch', 'iter') if name in told}

    def before_train(self, runner: Runner) -> None:
        loop, iteration = runner.train_loop, runner.iter
        if runner.val_loop is None or not self.known or iteration == self.validated:
            return
        by_epoch = isinstance(loop, EpochBasedTrainLoop)
        if by_epoch and iteration != loop.epoch * len(loop.dataloader):
            return
        loop._decide_current_val_interval()
        done, end = (loop.epoch, loop.max_epochs) if by_epoch else (iteration, loop.max_iters)
        if done >= loop.val_begin and (done % loop.val_interval == 0 or done == end):
            runner.logger.info('resume: the validation at this point was not done yet')
            for name, count in self.counts.items():  # of the iteration that came before
                runner.message_hub.update_info(name, count)
            runner.val_loop.run()
