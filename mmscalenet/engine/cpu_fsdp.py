"""Sharded training without a GPU."""
from mmengine._strategy import FSDPStrategy
from torch import Tensor


class CPUFSDPStrategy(FSDPStrategy):
    """Stands in for mmengine's ``FSDPStrategy``, which names the device of a process by the number of a GPU.

    All arguments are the parent's.
    """

    def __init__(self, *, model_wrapper: dict | None = None, **kwargs) -> None:
        wrapper = {'type': 'MMFullyShardedDataParallel', **(model_wrapper or {}), 'device_id': 'cpu'}
        super().__init__(model_wrapper=wrapper, **kwargs)
        for config in (self.state_dict_config, self.optim_state_dict_config):
            config.offload_to_cpu = False  # torch crashes where what is to be moved to the CPU is there already

    def model_state_dict(self) -> dict[str, Tensor]:
        """The weights as plain tensors: with the marks that torch sets on them their file could not be read safely."""
        return {name: weight.detach() for name, weight in super().model_state_dict().items()}
