"""The mmengine runner as our entry scripts build it."""
import os
from functools import partial

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.fileio import register_backend
from mmengine.hooks import CheckpointHook
from mmengine.optim import AmpOptimWrapper, ZeroRedundancyOptimizer
from mmengine.registry import HOOKS, MODELS, OPTIM_WRAPPERS, OPTIMIZERS, RUNNERS, STRATEGIES
from mmengine.runner import Runner, activation_checkpointing
from torch import nn
from torch.utils.checkpoint import checkpoint

from .broken_data import name_broken_data
from .checkpoint_reading import read_safely
from .cpu_fsdp import CPUFSDPStrategy
from .depth import let_depth_change
from .distributed import init_processes
from .files import WholeFileBackend
from .hooks import (
    DataAgreementHook,
    DetectionLabelHook,
    DetectionStrideHook,
    ExactResumeHook,
    MissedValidationHook,
    SegmentationLabelHook,
    StartWeightsHook,
    WholeCheckpointHook,
)
from .optimizers import CPUAmpOptimWrapper, GatheredZeroRedundancyOptimizer
from .optimizers.library_decay import let_libraries_count_positions
from .parallel import check_parallel, unshard


def replace_parts(cfg: Config) -> None:
    """Put our variants in the place of the libraries' under the same names.

    So they serve every config, and the configs that a work directory and a checkpoint keep stay usable without us.
    """
    read_safely(trusted=cfg.get('trusted', False))
    if cfg.get('default_scope') == 'mmdet':
        from .coco_annotations import check_annotations  # imports mmdet, which takes seconds and need not be there
        check_annotations()
    let_libraries_count_positions(cfg)
    hooks = [*(cfg.get('default_hooks') or {}).values(), *(cfg.get('custom_hooks') or [])]
    optim_wrapper = cfg.get('optim_wrapper') or {}
    for part in [*hooks, optim_wrapper, optim_wrapper.get('optimizer')]:
        if isinstance(part, dict) and part.get('type') in (CheckpointHook, AmpOptimWrapper, ZeroRedundancyOptimizer):
            # a config of classes
            part['type'] = part['type'].__name__
    register_backend('local', WholeFileBackend, force=True, prefixes='')
    HOOKS.register_module(name='CheckpointHook', module=WholeCheckpointHook, force=True)
    OPTIMIZERS.register_module(name='ZeroRedundancyOptimizer', module=GatheredZeroRedundancyOptimizer, force=True)
    # mmengine's is reentrant: DistributedDataParallel fails at a block used twice, and a module whose input needs no
    # gradient is not trained
    activation_checkpointing.checkpoint = partial(checkpoint, use_reentrant=False)
    if get_device() == 'cpu':
        # torch's SyncBatchNorm has no CPU version; mmengine replaces it only where one process trains alone
        MODELS.register_module(name='SyncBN', module=nn.BatchNorm2d, force=True)
        OPTIM_WRAPPERS.register_module(name='AmpOptimWrapper', module=CPUAmpOptimWrapper, force=True)
        STRATEGIES.register_module(name='FSDPStrategy', module=CPUFSDPStrategy, force=True)


def build_runner(cfg: Config, testing: bool = False) -> Runner:
    """Build the runner of a config of any of the task libraries.

    Checkpoints appear only when whole, and are read without running code in them, unless the config says
    ``trusted = True``; one to start from or to test fits the backbone or is refused; data that are broken or
    do not agree are named; without a
    GPU, several processes and mixed precision work on the CPU. An interrupted training goes on to the same end.

    Args:
        cfg (Config): The config; ``launcher`` and ``work_dir`` are set.
        testing (bool): Whether the model is only tested, for which the checkpoint has to hold all of it. Defaults to
            False.

    Returns:
        Runner: The runner, or what ``runner_type`` names.
    """
    replace_parts(cfg)
    if testing:
        unshard(cfg)
    else:
        check_parallel(cfg)
    let_depth_change(cfg)
    init_processes(cfg)
    runner = _runner_class(cfg, testing).from_cfg(cfg)
    name_broken_data(runner)
    runner.register_hook(StartWeightsHook(testing))
    runner.register_hook(DataAgreementHook())
    for kind in () if testing else (ExactResumeHook, MissedValidationHook):
        if not any(isinstance(hook, kind) for hook in runner.hooks):
            runner.register_hook(kind())
    for kind in dict(mmdet=[DetectionLabelHook, DetectionStrideHook], mmseg=[SegmentationLabelHook]).get(
            cfg.get('default_scope'), ()):
        runner.register_hook(kind())
    return runner


def _runner_class(cfg: Config, testing: bool) -> type:
    """That which ``runner_type`` names. One for tests leaves the config of a training in the work directory alone."""
    kind = cfg.get('runner_type', Runner)
    kind = RUNNERS.get(kind) if isinstance(kind, str) else kind

    def dump_config(runner: Runner) -> None:
        if cfg.filename is None or not os.path.exists(os.path.join(runner.work_dir, os.path.basename(cfg.filename))):
            kind.dump_config(runner)

    return type(kind.__name__, (kind, ), dict(dump_config=dump_config)) if testing else kind
