"""Grow pretrained vision transformers on OpenMMLab: ScaleNet, arXiv 2510.18431."""
import sys

from .compat import warn_untested
from .version import __version__

try:
    from .expansion import Expanded, expand, layer_table
    from .models import ScaleNet, ScaleNetDeiT, ScaleNetSwin
    from .registry import ADAPTERS, MODELS
except (ImportError, OSError) as error:  # a broken shared library raises OSError
    # the doctor has to start where something is missing: that is what it is for
    if 'mmscalenet.doctor' not in sys.orig_argv:
        raise ImportError(f'{error}; `python -m mmscalenet.doctor` says what is missing and how to get it') from error
else:
    warn_untested()

__all__ = [
    'ADAPTERS', 'MODELS', 'Expanded', 'ScaleNet', 'ScaleNetDeiT', 'ScaleNetSwin', '__version__', 'expand', 'layer_table'
]
