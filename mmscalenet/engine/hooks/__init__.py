from .checkpoint_hook import WholeCheckpointHook
from .curve_hook import CurveHook
from .data_agreement_hook import DataAgreementHook
from .depth_hook import DepthHook
from .detection_label_hook import DetectionLabelHook
from .detection_stride_hook import DetectionStrideHook
from .exact_resume_hook import ExactResumeHook
from .missed_validation_hook import MissedValidationHook
from .non_finite_hook import NonFiniteHook
from .segmentation_label_hook import SegmentationLabelHook
from .start_weights_hook import StartWeightsHook

__all__ = [
    'CurveHook', 'DataAgreementHook', 'DepthHook', 'DetectionLabelHook', 'DetectionStrideHook', 'ExactResumeHook',
    'MissedValidationHook', 'NonFiniteHook', 'SegmentationLabelHook', 'StartWeightsHook', 'WholeCheckpointHook'
]
