from .backbones import ScaleNetDeiT, ScaleNetSwin

__all__ = ['ScaleNetDeiT', 'ScaleNetSwin']
