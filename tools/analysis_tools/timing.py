"""How long a pass takes, for the tools that compare or report times."""
import time
from collections.abc import Callable

import torch
from torch import nn


def seconds(model: nn.Module, image: torch.Tensor, training: bool,
            run: Callable[[nn.Module, torch.Tensor], object] = lambda model, image: model(image)) -> float:
    """One forward, and in training one backward, in seconds.

    With one CPU thread that is processor time, to which other programs on the machine do not add.

    Args:
        model (nn.Module): What is timed, in the mode that it is to run in.
        image (torch.Tensor): Its input, on its device.
        training (bool): Whether gradients are computed: of the mean of every output.
        run (Callable): Calls the model. Defaults to ``model(image)``.
    """
    clock = time.perf_counter if image.is_cuda or torch.get_num_threads() > 1 else time.process_time
    if image.is_cuda:
        torch.cuda.synchronize()  # what was begun before is not part of it
    start = clock()
    with torch.set_grad_enabled(training):
        outputs = run(model, image)
        if training:
            sum(out.mean() for out in outputs).backward()
    if image.is_cuda:
        torch.cuda.synchronize()
    elapsed = clock() - start
    model.zero_grad()
    return elapsed
