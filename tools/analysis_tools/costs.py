"""What training a model costs besides time; each figure is counted where it arises, none by a formula."""
import gc

import torch
from get_flops import count_activation_bytes, random_images
from timing import step
from torch import nn


def parameters(model: nn.Module) -> int:
    """How many numbers are learnt."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def optimizer_bytes(model: nn.Module, shape: tuple[int, int, int]) -> int:
    """Bytes that AdamW holds after its first step; that of a parameter without a gradient is none.

    Args:
        model (nn.Module): Its weights stay as they are.
        shape (tuple[int, int, int]): Channels, height and width of the image that gradients come from.
    """
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=0.)
    model.train()
    step(model, random_images(model, 2, shape), training=True)
    optimizer.step()
    model.zero_grad()
    return sum(value.nbytes for state in optimizer.state.values() for value in state.values())


def costs(model: nn.Module, shape: tuple[int, int, int]) -> dict[str, float]:
    """All of them, by what they are and their unit; arguments as above."""
    found = {'parameters (M)': parameters(model) / 1e6,
             'kept for the backward pass (MiB an image)': count_activation_bytes(model, shape) / 2**20,
             "AdamW's state (MiB)": optimizer_bytes(model, shape) / 2**20}
    gc.collect()  # the graphs of counted passes refer to themselves
    return found
