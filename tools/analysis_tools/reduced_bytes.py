"""What two processes that train together send each other in a step."""
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from timing import step
from torch import distributed, multiprocessing, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel


def reduced_bytes(build: Callable[[], Sequence[nn.Module]], shape: tuple[int, int, int]) -> list[int]:
    """Bytes that DistributedDataParallel all-reduces in a training step of each model, counted in two gloo processes.

    Args:
        build (Callable): Builds the models, in each process; one that pickles.
        shape (tuple[int, int, int]): Channels, height and width of the images.
    """
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(_work, (build, shape, folder), nprocs=2)
        first, second = (torch.load(Path(folder, f'{rank}.pth')) for rank in range(2))
    assert first == second, f'the processes have reduced {first} and {second} bytes'
    return first


def _work(rank: int, build: Callable[[], Sequence[nn.Module]], shape: tuple[int, int, int], folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2)
    counts = [_count(model, torch.randn(2, *shape)) for model in build()]
    torch.save(counts, Path(folder, f'{rank}.pth'))
    distributed.destroy_process_group()


def _count(model: nn.Module, images: torch.Tensor) -> int:
    counts = []

    def count(group: object, bucket: distributed.GradBucket) -> torch.futures.Future[torch.Tensor]:
        counts.append(bucket.buffer().nbytes)
        return allreduce_hook(group, bucket)

    model.train()
    parallel = DistributedDataParallel(model, broadcast_buffers=False)  # as mmengine's are
    parallel.register_comm_hook(None, count)
    step(parallel, images, training=True)
    return sum(counts)
