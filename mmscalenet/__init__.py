"""Grow pretrained vision transformers on OpenMMLab: ScaleNet, arXiv 2510.18431."""
from .expansion import Expanded, expand, layer_table
from .models import ScaleNetDeiT, ScaleNetSwin
from .registry import ADAPTERS, MODELS
from .version import __version__

__all__ = ['ADAPTERS', 'MODELS', 'Expanded', 'ScaleNetDeiT', 'ScaleNetSwin', '__version__', 'expand', 'layer_table']
