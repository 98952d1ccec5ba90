from .backbones import ScaleNetDeiT, ScaleNetSwin
from .necks import SimpleFeaturePyramid

__all__ = ['ScaleNetDeiT', 'ScaleNetSwin', 'SimpleFeaturePyramid']
