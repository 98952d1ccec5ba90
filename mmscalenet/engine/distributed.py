"""Data-parallel processes on a machine without a GPU."""
import os
import subprocess

import torch
from mmengine.config import Config
from mmengine.device import get_device
from torch import distributed

from .errors import UsageError
from .parallel import ddp_arguments, is_flexible


def init_processes(cfg: Config) -> None:
    """Prepare ``cfg`` and the process group for the launcher that ``cfg.launcher`` names.

    With a GPU all is left to mmengine. Without one mmengine's launchers fail at ``torch.cuda.set_device``, so the
    group is made here with gloo, and the model's wrapper is told that there is no device to name.

    Raises:
        UsageError: If more processes than GPUs were started on this machine.
    """
    if cfg.get('launcher', 'none') == 'none':
        return
    if get_device() != 'cpu':
        local_rank = int(os.environ.get('LOCAL_RANK', 0))
        if get_device() == 'cuda' and local_rank >= torch.cuda.device_count():
            raise UsageError(f'process {local_rank + 1} of this machine finds no GPU of its own: there are '
                             f'{torch.cuda.device_count()}. Start at most that many, or set CUDA_VISIBLE_DEVICES=-1 '
                             'to train on CPU processes.')
        return

    if not distributed.is_initialized():
        _export_ranks(cfg.launcher)
        distributed.init_process_group('gloo')
    if not is_flexible(cfg) and not cfg.get('model_wrapper_cfg'):
        cfg.model_wrapper_cfg = dict(
            type='MMDistributedDataParallel',
            broadcast_buffers=False,
            find_unused_parameters=cfg.get('find_unused_parameters', False))
    if wrapper := ddp_arguments(cfg):
        wrapper.device_ids = None


def end_processes() -> None:
    """Leave the group together: a process that ends while another still talks to it has that one abort."""
    if distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()


def rank_in(launcher: str) -> int:
    """The number of this process among those of a run, before their group is made."""
    name = dict(pytorch='RANK', slurm='SLURM_PROCID', mpi='OMPI_COMM_WORLD_RANK').get(launcher)
    return int(os.environ.get(name, 0)) if name else 0


def _export_ranks(launcher: str) -> None:
    """Name rank, world size and master as torchrun does, from what Slurm or MPI say."""
    env = os.environ
    if launcher == 'slurm':
        env.update(RANK=env['SLURM_PROCID'], WORLD_SIZE=env['SLURM_NTASKS'], LOCAL_RANK=env['SLURM_LOCALID'])
        if 'MASTER_ADDR' not in env:
            hosts = subprocess.run(['scontrol', 'show', 'hostname', env['SLURM_NODELIST']], check=True,
                                   capture_output=True, text=True)
            env['MASTER_ADDR'] = hosts.stdout.split()[0]
    elif launcher == 'mpi':
        env.update({name: env[f'OMPI_COMM_WORLD_{name.replace("WORLD_", "")}']
                    for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK')})
        env.setdefault('MASTER_ADDR', '127.0.0.1')
    env.setdefault('MASTER_PORT', '29500')
