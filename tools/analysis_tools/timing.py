"""How long a pass takes, for the tools that compare or report times."""
import time
from collections.abc import Callable, Sequence

import torch
from torch import nn


def clocked(work: Callable[[], object], is_cuda: bool) -> float:
    """Seconds that ``work`` takes, on the GPU if ``is_cuda``.

    With one CPU thread that is processor time, to which other programs on the machine do not add.
    """
    clock = time.perf_counter if is_cuda or torch.get_num_threads() > 1 else time.process_time
    if is_cuda:
        torch.cuda.synchronize()  # what was begun before is not part of it
    start = clock()
    work()
    if is_cuda:
        torch.cuda.synchronize()
    return clock() - start


def step(model: nn.Module, image: torch.Tensor, training: bool,
         run: Callable[[nn.Module, torch.Tensor], object] = lambda model, image: model(image)) -> None:
    """One forward, and in training one backward of the mean of every output; arguments as those of :func:`seconds`."""
    with torch.set_grad_enabled(training):
        outputs = run(model, image)
        if training:
            sum(out.mean() for out in outputs).backward()


def seconds(model: nn.Module, image: torch.Tensor, training: bool,
            run: Callable[[nn.Module, torch.Tensor], object] = lambda model, image: model(image)) -> float:
    """One forward, and in training one backward, in seconds.

    Args:
        model (nn.Module): What is timed, in the mode that it is to run in.
        image (torch.Tensor): Its input, on its device.
        training (bool): Whether gradients are computed: of the mean of every output.
        run (Callable): Calls the model. Defaults to ``model(image)``.
    """
    elapsed = clocked(lambda: step(model, image, training, run), image.is_cuda)
    model.zero_grad()
    return elapsed


def in_turn(timers: Sequence[Callable[[], float]], rounds: int, least: float = 0.) -> list[tuple[float, ...]]:
    """What each of ``timers`` returned in every round, after one that does not count.

    ``rounds`` of them, and more until they have taken ``least`` seconds: short runs scatter more.
    """
    for timer in timers:
        timer()
    times = []
    while len(times) < rounds or sum(map(sum, times)) < least:
        times.append(tuple(timer() for timer in timers))
    return times
