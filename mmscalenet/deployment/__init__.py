"""The ways out: ONNX files, and models of plain classes of the three libraries."""
from .computed import Computed, difference, random_images, run
from .onnx_file import Written, write_onnx

__all__ = ['Computed', 'Written', 'difference', 'random_images', 'run', 'write_onnx']
