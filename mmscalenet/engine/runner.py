"""The mmengine runner as our entry scripts build it."""
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.fileio import register_backend
from mmengine.registry import HOOKS, MODELS, OPTIM_WRAPPERS, RUNNERS
from mmengine.runner import Runner
from torch import nn

from .distributed import init_processes
from .files import WholeFileBackend
from .hooks import WholeCheckpointHook
from .optimizers import CPUAmpOptimWrapper


def replace_parts() -> None:
    """Put our variants in the place of mmengine's under the same names.

    So they serve every config, and the configs that a work directory and a checkpoint keep stay usable without us.
    """
    register_backend('local', WholeFileBackend, force=True, prefixes='')
    HOOKS.register_module(name='CheckpointHook', module=WholeCheckpointHook, force=True)
    if get_device() == 'cpu':
        # torch's SyncBatchNorm has no CPU version; mmengine replaces it only where one process trains alone
        MODELS.register_module(name='SyncBN', module=nn.BatchNorm2d, force=True)
        OPTIM_WRAPPERS.register_module(name='AmpOptimWrapper', module=CPUAmpOptimWrapper, force=True)


def build_runner(cfg: Config) -> Runner:
    """Build the runner of a config of any of the task libraries.

    Checkpoints appear only when whole; without a GPU, several processes and mixed precision work on the CPU.

    Args:
        cfg (Config): The config; ``launcher`` and ``work_dir`` are set.

    Returns:
        Runner: The runner, or what ``runner_type`` names.
    """
    replace_parts()
    init_processes(cfg)
    return RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
