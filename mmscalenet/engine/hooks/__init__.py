from .checkpoint_hook import WholeCheckpointHook
from .segmentation_label_hook import SegmentationLabelHook
from .start_weights_hook import StartWeightsHook

__all__ = ['SegmentationLabelHook', 'StartWeightsHook', 'WholeCheckpointHook']
