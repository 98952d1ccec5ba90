"""Mixed precision without a GPU."""
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper


class CPUAmpOptimWrapper(OptimWrapper):
    """Stands in for mmengine's ``AmpOptimWrapper``, which refuses to run on a CPU.

    A CPU computes in bfloat16, whose range is that of float32: the loss needs no scaling.

    Args:
        loss_scale (float | str | dict): Accepted for the sake of configs made for a GPU and not used.
            Defaults to 'dynamic'.
        dtype (str | torch.dtype, optional): The same. Defaults to None.
        use_fp64 (bool): The same. Defaults to False.
        use_fsdp (bool): The same; mmengine's ``FSDPStrategy`` sets it. Defaults to False.
        **kwargs: Arguments of ``OptimWrapper``.
    """

    def __init__(self, loss_scale='dynamic', dtype=None, use_fp64=False, use_fsdp=False, **kwargs) -> None:
        super().__init__(**kwargs)

    def load_state_dict(self, state_dict: dict) -> None:
        super().load_state_dict({key: value for key, value in state_dict.items() if key != 'loss_scaler'})

    @contextmanager
    def optim_context(self, model: torch.nn.Module):
        with super().optim_context(model), torch.autocast('cpu', torch.bfloat16):
            yield
