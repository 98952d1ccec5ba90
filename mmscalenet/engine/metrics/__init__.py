from .cross_entropy import CrossEntropy
from .dump_seg_results import DumpSegResults

__all__ = ['CrossEntropy', 'DumpSegResults']
