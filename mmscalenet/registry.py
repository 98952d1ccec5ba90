"""Registries of scope 'mmscalenet': children of mmengine's, so that any config can write ``type='mmscalenet.X'``."""
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import Registry

MODELS = Registry('model', parent=MMENGINE_MODELS, scope='mmscalenet', locations=['mmscalenet.models'])
ADAPTERS = Registry('adapter', scope='mmscalenet', locations=['mmscalenet.expansion'])
