"""Registers the data sets of those task libraries that are installed; imported when a config first names one."""
from importlib.util import find_spec

__all__ = []

if find_spec('mmdet'):
    from .detection import FashionScenesDataset
    __all__ += ['FashionScenesDataset']
if find_spec('mmseg'):
    from .segmentation import FashionScenesSegDataset
    __all__ += ['FashionScenesSegDataset']
