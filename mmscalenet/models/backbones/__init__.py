from .scalenet_deit import ScaleNetDeiT
from .scalenet_swin import ScaleNetSwin

__all__ = ['ScaleNetDeiT', 'ScaleNetSwin']
