from .checkpoint_hook import WholeCheckpointHook

__all__ = ['WholeCheckpointHook']
