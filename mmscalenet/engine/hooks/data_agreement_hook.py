"""Looks, before anything is computed, whether the parts of a run's data agree."""
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import Runner

from ..data_agreement import check_best, check_classes_of_checkpoint, check_evaluator, check_folders, check_head
from ..model_of import model_of


class DataAgreementHook(Hook):
    """Names what would give wrong figures, or none, before training or a test starts.

    Raises:
        UsageError: See :mod:`mmscalenet.engine.data_agreement`.
    """

    def __init__(self) -> None:
        self.classes = None

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        meta = (checkpoint.get('meta') or {}).get('dataset_meta') or {}
        self.classes = meta.get('classes') or meta.get('CLASSES')

    def before_train(self, runner: Runner) -> None:
        model = model_of(runner)
        train = runner.train_dataloader.dataset
        if warning := check_head(model, train):
            runner.logger.warning(warning)
        for hook in runner.hooks:
            if isinstance(hook, CheckpointHook) and hook.save_best:
                check_best(runner, hook.key_indicators)
        if runner.val_loop is not None:
            check_folders(train, dict(validation=runner.val_loop.dataloader.dataset))
            self._check_evaluator(runner, runner.val_loop)

    def before_test(self, runner: Runner) -> None:
        check_classes_of_checkpoint(runner.test_loop.dataloader.dataset, self.classes)
        self._check_evaluator(runner, runner.test_loop)

    def _check_evaluator(self, runner: Runner, loop: object) -> None:
        for warning in check_evaluator(loop.dataloader.dataset, loop.evaluator):
            runner.logger.warning(warning)
