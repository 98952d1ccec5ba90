"""Mixed precision without a GPU."""
from contextlib import contextmanager
from functools import cache

import torch
from mmengine.optim import OptimWrapper
from torch import Tensor
from torch.library import Library


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
        layer_norm_in_float32()

    def load_state_dict(self, state_dict: dict) -> None:
        super().load_state_dict({key: value for key, value in state_dict.items() if key != 'loss_scaler'})

    @contextmanager
    def optim_context(self, model: torch.nn.Module):
        with super().optim_context(model), torch.autocast('cpu', torch.bfloat16):
            yield


@cache
def layer_norm_in_float32() -> Library:
    """Have autocast compute layer norms in float32 on a CPU too, as it does on a GPU.

    In bfloat16 torch sums the gradients of their weights over all tokens in 8 bits: 4,096 ones come to 256.

    Returns:
        Library: What holds this; made once, and kept.
    """

    def layer_norm(x: Tensor, *args, **kwargs) -> Tensor:
        with torch.autocast('cpu', enabled=False):
            return torch.ops.aten.layer_norm.default(x.float() if x.dtype == torch.bfloat16 else x, *args, **kwargs)

    library = Library('aten', 'IMPL', 'AutocastCPU')
    library.impl('layer_norm', layer_norm)
    return library
