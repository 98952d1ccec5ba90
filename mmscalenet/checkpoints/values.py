"""Whether tensors are what weights can be; ``load_state_dict`` turns anything into floats, silently."""
from collections.abc import Mapping

import torch
from torch import Tensor

from .errors import CheckpointError, some


def check_kinds(state: Mapping[str, Tensor], model: Mapping[str, Tensor]) -> None:
    """Refuse whole numbers, truth values and complex numbers in the place of weights.

    Raises:
        CheckpointError: Names the tensors.
    """
    wrong = [f'{name} ({str(value.dtype).removeprefix("torch.")})' for name, value in state.items()
             if name in model and model[name].is_floating_point() and not value.is_floating_point()]
    if wrong:
        raise CheckpointError(f'no weights, which are floating-point numbers: {some(wrong)}. A quantized model has to '
                              'be turned back first')


def check_values(state: Mapping[str, Tensor], model: Mapping[str, Tensor]) -> None:
    """Refuse what is no weight, or not finite as the type of the model's tensor of that name.

    Raises:
        CheckpointError: Names the tensors.
    """
    check_kinds(state, model)
    broken = [name for name, value in state.items()
              if name in model and not torch.isfinite(value.to(model[name].dtype)).all()]
    if broken:
        kinds = sorted({str(model[name].dtype).removeprefix('torch.') for name in broken})
        raise CheckpointError(f'NaN or inf in {some(broken)} as {" and ".join(kinds)}; the file comes from a run that '
                              'diverged, or is damaged')
