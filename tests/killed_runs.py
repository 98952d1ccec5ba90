"""Trainings that are killed at any moment, resumed, and compared with the one that nobody kills."""
import json
import multiprocessing
import os
import random
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import Runner

#: What is measured anew by every process: times, memory, and the paths of a work directory.
OF_THE_PROCESS = ('time', 'data_time', 'eta', 'memory', 'train/time', 'train/data_time', 'train/memory', 'val/time',
                  'val/data_time', 'cfg', 'experiment_name', 'last_ckpt', 'best_ckpt',
                  'keep_ckpt_ids')


def die_after(calls: int) -> None:
    """Have this process kill itself when the runner has called so many hooks."""
    call_hook, count = Runner.call_hook, 0

    def counted(runner: Runner, name: str, **kwargs) -> None:
        nonlocal count
        count += 1
        if count > calls:
            os.kill(os.getpid(), signal.SIGKILL)
        call_hook(runner, name, **kwargs)

    Runner.call_hook = counted


def train(tool: Callable, config: Path, work_dir: str, *options: str, calls: int | None = None,
          ranks: int = 1) -> bool:
    """Train in processes of their own, the last of which dies after ``calls`` calls of hooks; whether it came to the
    end."""

    def run(rank: int) -> None:
        if ranks > 1:
            os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(ranks), MASTER_ADDR='127.0.0.1',
                              MASTER_PORT=str(port))
        if calls is not None and rank == ranks - 1:
            die_after(calls)
        random.seed(), np.random.seed(), torch.seed()  # as in a process of its own: not what the others started from
        tool('train.py', config, '--work-dir', work_dir, *options, *(['--launcher', 'pytorch'] if ranks > 1 else []))

    port = free_port()
    processes = [multiprocessing.get_context('fork').Process(target=run, args=(rank, )) for rank in range(ranks)]
    for process in processes:
        process.start()
    processes[-1].join()
    if processes[-1].exitcode:  # what started them ends the rest, as torchrun does
        for process in processes[:-1]:
            process.kill()
    for process in processes:
        process.join()
    codes = [process.exitcode for process in processes]
    assert codes == [0] * ranks or codes[-1] == -signal.SIGKILL, codes
    return codes[-1] == 0


def free_port() -> int:
    with socket.socket() as found:
        found.bind(('127.0.0.1', 0))
        return found.getsockname()[1]


def last_checkpoint(work_dir: Path) -> dict:
    path = (work_dir / 'last_checkpoint').read_text()
    return torch.load(path, map_location='cpu', weights_only=False)


def differences(one: object, two: object, path: str = '') -> list[str]:
    """Where two checkpoints differ by a single bit, but for what each process measures or names anew."""
    if isinstance(one, HistoryBuffer):
        one, two = vars(one), vars(two)
    if type(one) is not type(two):
        return [path]
    if isinstance(one, dict):
        keys = [key for key in {**one, **two} if key not in OF_THE_PROCESS]
        return [found for key in keys for found in (
            differences(one[key], two[key], f'{path}.{key}') if key in one and key in two else [f'{path}.{key}'])]
    if isinstance(one, (list, tuple)):
        return [path] * (len(one) != len(two)) + [
            found for number, (a, b) in enumerate(zip(one, two, strict=False))
            for found in differences(a, b, f'{path}[{number}]')]
    if isinstance(one, (torch.Tensor, np.ndarray)):
        same = one.shape == two.shape and one.dtype == two.dtype and np.array_equal(
            np.asarray(one), np.asarray(two), equal_nan=np.asarray(one).dtype.kind == 'f')
        return [] if same else [path]
    return [] if one == two or one != one and two != two or callable(one) else [path]


def curves(work_dir: Path) -> list[dict]:
    """What the processes that trained in a work directory logged, one after the other."""
    lines = [json.loads(line) for file in sorted(work_dir.glob('*/vis_data/scalars.json'))
             for line in file.read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in OF_THE_PROCESS} for line in lines]
