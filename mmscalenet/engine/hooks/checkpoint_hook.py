"""Checkpoints that survive a kill at any moment."""
import os.path as osp

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.optim import ZeroRedundancyOptimizer

from ..errors import UsageError
from ..files import WholeFileBackend
from ..process_state import optim_wrappers


class WholeCheckpointHook(CheckpointHook):
    """mmengine's ``CheckpointHook``, except that an old file goes only after the new one is there.

    The parent makes room first, so that with ``max_keep_ckpts=1`` a kill during the write leaves no checkpoint at all;
    likewise the best one. It also writes ``last_checkpoint`` in place. What processes have of their own, the parts of
    ZeRO's optimizer too, is gathered before. All arguments are the parent's.
    """

    def before_train(self, runner) -> None:
        super().before_train(runner)
        last = runner.message_hub.runtime_info.get('last_ckpt')
        # of the names alone, which are the same in all processes: saving is something that all of them take part in
        if runner._resume and last and osp.dirname(last) == self.out_dir.rstrip(osp.sep):
            self.last_ckpt = last  # which is to be written again where the validation of its weights is the best
        if runner._resume and self.save_best is not None:
            self._forget_best_of_others(runner)

    def _forget_best_of_others(self, runner) -> None:
        """A run forked from another, or in a folder that was moved, is not to delete the best file of that one."""
        known = runner.message_hub.runtime_info
        paths = {key: path for key, path in known.items() if key.startswith('best_ckpt') and path
                 and osp.dirname(path) != self.out_dir.rstrip(osp.sep)}
        moved = {key: self.file_backend.join_path(self.out_dir, osp.basename(path)) for key, path in paths.items()}
        found = [{key: path for key, path in moved.items() if self.file_backend.exists(path)}]
        broadcast_object_list(found)  # processes may see other files, and have to agree
        for key in paths:
            if key in found[0]:
                known[key] = found[0][key]
            else:
                known.pop(key)
                known.pop(key.replace('best_ckpt', 'best_score'), None)
        if len(self.key_indicators) == 1:
            self.best_ckpt_path = known.get('best_ckpt')
        else:
            self.best_ckpt_path_dict.update({key: known.get(f'best_ckpt_{key}') for key in self.key_indicators})

    def _save_checkpoint_with_step(self, runner, step: int, meta: dict) -> None:
        outdated = []
        if self.max_keep_ckpts > 0 and step not in self.keep_ckpt_ids:
            known = [*self.keep_ckpt_ids, step]
            outdated = known[:-self.max_keep_ckpts]
            self.keep_ckpt_ids.append(step)  # drops the oldest
            # The file still lists what is about to go: after a kill in between, the parent's before_train removes it.
            runner.message_hub.update_info('keep_ckpt_ids', known)

        filename = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, filename)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        # save_checkpoint runs in one process alone
        runner.call_hook('gather_for_checkpoint')  # of ExactResumeHook
        for wrapper in optim_wrappers(runner) if self.save_optimizer else ():
            if isinstance(wrapper.optimizer, ZeroRedundancyOptimizer):
                wrapper.optimizer.consolidate_state_dict()
        runner.save_checkpoint(
            self.out_dir,
            filename,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args)

        if is_main_process():
            # not by mmengine's put_text, which may go on with a local backend that it made before ours took its place
            WholeFileBackend().put_text(self.last_ckpt, osp.join(runner.work_dir, 'last_checkpoint'))
            for old in outdated:
                _remove(self.file_backend, self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(old)))

    def _save_best_checkpoint(self, runner, metrics: dict) -> None:
        for name in getattr(self, 'key_indicators', ()):
            if metrics and name not in ('auto', *metrics):
                raise UsageError(f'default_hooks.checkpoint.save_best={name!r} is none of the metrics of '
                                 f'val_evaluator: {", ".join(map(repr, metrics))}.')
        backend, postponed = self.file_backend, _PostponedRemoval(self.file_backend)
        self.file_backend = postponed
        try:
            super()._save_best_checkpoint(runner, metrics)
        finally:
            self.file_backend = backend
        best = {getattr(self, 'best_ckpt_path', None), *getattr(self, 'best_ckpt_path_dict', {}).values()}
        for path in postponed.paths:
            if path not in best:  # an epoch run again after --resume writes the same name anew
                _remove(backend, path)


class _PostponedRemoval:
    """A storage backend that notes what is to be deleted instead of deleting it."""

    def __init__(self, backend) -> None:
        self.backend = backend
        self.paths = []

    def __getattr__(self, name: str):
        return getattr(self.backend, name)

    def remove(self, path: str) -> None:
        self.paths.append(path)

    rmtree = remove


def _remove(backend, path: str) -> None:
    if backend.isdir(path):  # deepspeed writes a folder
        backend.rmtree(path)
    elif backend.isfile(path):
        backend.remove(path)
