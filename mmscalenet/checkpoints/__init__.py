"""Pretrained checkpoints: every source format -> one naming -> any parent's naming; strict, with a readable report."""
from .errors import CheckpointError
from .formats import Source, convert, to_mmseg
from .heads import PretrainedHead
from .loading import load_content, load_pretrained
from .reading import read_checkpoint
from .report import Report

__all__ = ['CheckpointError', 'PretrainedHead', 'Report', 'Source', 'convert', 'load_content', 'load_pretrained',
           'read_checkpoint', 'to_mmseg']
