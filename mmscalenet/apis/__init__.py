"""Inference and pictures for models and data of mmpretrain, mmdet and mmseg alike."""
from .drawing import Drawer, enter_scope
from .inference import Inferencer
from .loading import load_model
from .results import describe

__all__ = ['Drawer', 'Inferencer', 'describe', 'enter_scope', 'load_model']
