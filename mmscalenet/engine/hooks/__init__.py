from .checkpoint_hook import WholeCheckpointHook
from .segmentation_label_hook import SegmentationLabelHook

__all__ = ['SegmentationLabelHook', 'WholeCheckpointHook']
