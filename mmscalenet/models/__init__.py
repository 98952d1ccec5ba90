from .backbones import ScaleNet, ScaleNetDeiT, ScaleNetSwin
from .necks import SimpleFeaturePyramid

__all__ = ['ScaleNet', 'ScaleNetDeiT', 'ScaleNetSwin', 'SimpleFeaturePyramid']
