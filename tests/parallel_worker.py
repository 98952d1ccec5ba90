"""Train with tools/train.py on each config that is given, one after the other in one process, as imports take seconds.

A work directory then has ``rank0.pth`` with the gradients of every step and the last weights, or ``refused.txt``.
"""
import os
import runpy
import sys
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import FUNCTIONS, HOOKS
from torch import Tensor, distributed, nn
from torch.distributed.fsdp import FullyShardedDataParallel

from mmscalenet.engine import UsageError
from mmscalenet.expansion.shared_block import SharedBlock

TRAIN = Path(__file__).resolve().parents[1] / 'tools/train.py'


@HOOKS.register_module(force=True)
class GradientRecorder(Hook):
    """Keeps what the optimizer gets at each of its steps, and the weights that come of it."""

    priority = 'LOWEST'

    def before_train(self, runner) -> None:
        self.gradients = []
        runner.optim_wrapper.optimizer.register_step_pre_hook(lambda *_: self.gradients.append(
            {name: grad for name, (_, grad) in whole_tensors(runner.model).items()}))

    def after_train(self, runner) -> None:
        weights = {name: weight for name, (weight, _) in whole_tensors(runner.model).items()}
        # the optimizer's state goes by number
        names = [name.removeprefix('module.') for name, _ in runner.model.named_parameters()]
        torch.save(dict(gradients=self.gradients, weights=weights, names=names),
                   Path(runner.work_dir) / f'rank{runner.rank}.pth')


@FUNCTIONS.register_module(force=True)
def is_block(module: nn.Module, recurse: bool = False, nonwrapped_numel: int = 0) -> bool:
    """For FSDP: each block is a unit, to be wrapped and to be recomputed."""
    return recurse or isinstance(module, SharedBlock)


def whole_tensors(model: nn.Module) -> dict[str, tuple[Tensor, Tensor]]:
    """What of a model is trained, and its gradients, gathered where processes have shards."""
    sharded = isinstance(model, FullyShardedDataParallel)
    with FullyShardedDataParallel.summon_full_params(model, with_grads=True) if sharded else nullcontext():
        inner = model.module if is_model_wrapper(model) else model
        return {name.replace('_fsdp_wrapped_module.', '').replace('_checkpoint_wrapped_module.', ''):
                (parameter.detach().clone(), torch.zeros_like(parameter) if parameter.grad is None else
                 parameter.grad.clone())
                for name, parameter in inner.named_parameters() if parameter.requires_grad}


def train(config: str) -> None:
    """Train; what is refused is written down."""
    work_dir = Path(config).with_suffix('')
    sys.argv = ['train.py', config, '--work-dir', str(work_dir)]
    if distributed.is_initialized():
        sys.argv += ['--launcher', 'pytorch']
    try:
        runpy.run_path(str(TRAIN))['main'].__wrapped__()
    except UsageError as error:
        work_dir.mkdir(exist_ok=True)
        (work_dir / 'refused.txt').write_text(str(error))


if __name__ == '__main__':
    torch.set_num_threads(1)
    if 'RANK' in os.environ:
        # where one process has failed the other waits, by default for half an hour
        distributed.init_process_group('gloo', timeout=timedelta(seconds=60))
    for path in sys.argv[1:]:
        train(path)
