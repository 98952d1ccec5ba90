"""Registries of scope 'mmscalenet': children of mmengine's, so that any config can write ``type='mmscalenet.X'``."""
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import FUNCTIONS as MMENGINE_FUNCTIONS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import WEIGHT_INITIALIZERS as MMENGINE_WEIGHT_INITIALIZERS
from mmengine.registry import Registry

MODULE2PACKAGE['mmscalenet'] = 'mmscalenet'  # mmengine inherits from packages it knows: _base_ = 'mmscalenet::...'

MODELS = Registry('model', parent=MMENGINE_MODELS, scope='mmscalenet', locations=['mmscalenet.models'])
ADAPTERS = Registry('adapter', scope='mmscalenet', locations=['mmscalenet.expansion'])
HOOKS = Registry('hook', parent=MMENGINE_HOOKS, scope='mmscalenet', locations=['mmscalenet.engine.hooks'])
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    'optimizer wrapper constructor', parent=MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS, scope='mmscalenet',
    locations=['mmscalenet.engine.optimizers'])
DATASETS = Registry(
    'dataset', parent=MMENGINE_DATASETS, scope='mmscalenet',
    locations=['mmscalenet.datasets.fashion_scenes', 'mmscalenet.datasets.in_memory'])
FUNCTIONS = Registry(
    'function', parent=MMENGINE_FUNCTIONS, scope='mmscalenet', locations=['mmscalenet.datasets.in_memory'])
METRICS = Registry('metric', parent=MMENGINE_METRICS, scope='mmscalenet', locations=['mmscalenet.engine.metrics'])
TRANSFORMS = Registry(
    'transform', parent=MMENGINE_TRANSFORMS, scope='mmscalenet', locations=['mmscalenet.datasets.pasting'])
WEIGHT_INITIALIZERS = Registry(
    'weight initializer', parent=MMENGINE_WEIGHT_INITIALIZERS, scope='mmscalenet', locations=['mmscalenet.checkpoints'])
