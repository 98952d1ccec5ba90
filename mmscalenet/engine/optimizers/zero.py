"""ZeRO's optimizer with a state that one process can save."""
from mmengine.optim import ZeroRedundancyOptimizer


class GatheredZeroRedundancyOptimizer(ZeroRedundancyOptimizer):
    """mmengine's optimizer, except that ``state_dict`` gives what was gathered last, as in torch.

    The parent gathers the parts of all processes there. mmengine saves in one process alone, which would wait for the
    others for ever; :class:`WholeCheckpointHook` has all of them gather before that. All arguments are the parent's.
    """

    def state_dict(self) -> dict:
        """The state of all parameters, in the process that saves."""
        return super(ZeroRedundancyOptimizer, self).state_dict()
