from .scalenet import ScaleNet
from .scalenet_deit import ScaleNetDeiT
from .scalenet_swin import ScaleNetSwin

__all__ = ['ScaleNet', 'ScaleNetDeiT', 'ScaleNetSwin']
