"""Grow pretrained vision transformers on OpenMMLab: ScaleNet, arXiv 2510.18431."""
import sys

from .compat import missing, warn_untested
from .version import __version__

try:
    from .expansion import Expanded, expand, layer_table
    from .models import ScaleNet, ScaleNetDeiT, ScaleNetSwin
    from .registry import ADAPTERS, MODELS
except (ImportError, OSError) as error:  # a broken shared library raises OSError
    # the doctor has to start where something is missing: that is what it is for
    if not {'mmscalenet.doctor', 'doctor'} & set(sys.orig_argv):
        absent = missing()
        reason = f'not installed: {", ".join(absent)}' if absent else error
        raise ImportError(f'mmscalenet cannot be imported, {reason}; `python -m mmscalenet.doctor` says how to get it'
                          ) from (None if absent else error)
else:
    warn_untested()

__all__ = [
    'ADAPTERS', 'MODELS', 'Expanded', 'ScaleNet', 'ScaleNetDeiT', 'ScaleNetSwin', '__version__', 'expand', 'layer_table'
]
