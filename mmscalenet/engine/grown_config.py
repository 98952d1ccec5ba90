"""The config of a net grown from that of another."""
import os
import re
from collections.abc import Iterator
from fractions import Fraction
from importlib import import_module

from mmengine.config import Config

from mmscalenet.expansion.families import is_known, known_families
from mmscalenet.models.backbones.scalenet import depth_is_its_parents

from .cli import LIBRARIES, backbone_of, full_type, library_of, read_config, short_type, use_scope_of_library
from .errors import UsageError

#: Class of a backbone -> the one that grows it; others grow with ``ScaleNet``.
TWINS = {'SwinTransformer': 'ScaleNetSwin', 'VisionTransformer': 'ScaleNetDeiT',
         'DistilledVisionTransformer': 'ScaleNetDeiT'}

#: Constructors of optimizers for which ``custom_keys`` means what it does in mmengine.
READ_CUSTOM_KEYS = ('DefaultOptimWrapperConstructor', 'LayerDecayOptimWrapperConstructor')


def scalenet_options(cfg: Config) -> dict[str, str]:
    """What makes the backbone of a config a ScaleNet; nothing if it is one.

    Raises:
        UsageError: If there is no backbone that can be expanded.
    """
    backbone = backbone_of(cfg)
    kind = full_type(backbone)
    name, library = kind.rpartition('.')[2], kind.split('.')[0]
    if name in (*TWINS.values(), 'ScaleNet'):
        return {}
    if name not in TWINS:
        library = library if library in LIBRARIES else library_of(cfg)
        parent = None
        if library in LIBRARIES:
            parent = import_module(f'{library}.registry').MODELS.get(f'{library}.{name}')
        if parent is None or not is_known(parent):
            raise UsageError(f'the backbone of the config, {kind}, is none that is expanded here; it has to be one of '
                             f'{known_families()}.')
        return dict(type='mmscalenet.ScaleNet', base=f'{library}.{name}')
    options = dict(type=f'mmscalenet.{TWINS[name]}')
    if library in LIBRARIES or name == 'DistilledVisionTransformer':
        options['base'] = f'{library if library in LIBRARIES else "mmpretrain"}.{name}'
    return options


def read_base(path: str) -> Config:
    """A config that another is to inherit from: a file, or what a library ships, as ``'mmdet::swin/...'``.

    Raises:
        UsageError: If it does not exist, or no plain config can inherit from it.
    """
    if '::' not in path:
        path = os.path.abspath(read_config(path).filename)  # says what is missing
    try:
        cfg = Config.fromstring(f'_base_ = {path!r}', '.py')
    except (FileNotFoundError, ImportError, KeyError, ValueError) as error:
        raise UsageError(f'config "{path}" does not exist, or its library does not say where it is: {error}') from None
    except RuntimeError:  # mmengine's, of configs that import classes
        raise UsageError(f'config "{path}" is of mmengine\'s newer style, which a plain config cannot inherit from. '
                         'Give the work directory of its run, which keeps a plain one.') from None
    use_scope_of_library(cfg)  # also where a work directory's names classes by their modules
    return cfg


def grown_settings(cfg: Config, options: dict) -> dict:
    """What a config that inherits from ``cfg`` has to say for its backbone to be grown.

    Files that the model would be initialised from are left out: a grown checkpoint holds all of it. Gates get a rate of
    their own (see :func:`factor_rates`).

    Args:
        cfg (Config): The config of the base, of any of the three libraries.
        options (dict): Options of :func:`mmscalenet.expand` by their names.

    Raises:
        UsageError: If its backbone cannot be grown.
    """
    grows, backbone = scalenet_options(cfg), cfg.model.backbone
    if not grows and (backbone.get('scale', 2) != 1 or not isinstance(backbone.get('layer_map', ''), str)):
        raise UsageError('model.backbone of the config is grown already. Take the config and the checkpoint of its '
                         'base.')
    if grows and backbone.get('scale') is not None:  # HorNet's
        raise UsageError(f'scale={backbone.scale!r} of the backbone is an argument of its own, for which a config has '
                         'no place beside the scale of growing. In Python `mmscalenet.expand` grows it.')
    if not grows and backbone.get('adapter', ()) is None:  # as a config of the base says, which the default is not
        options = dict(adapter=dict(type='ParallelAdapter')) | options
    if backbone.get('depth') is not None and not depth_is_its_parents(dict(backbone) | grows):  # at which the base ran
        options = dict(depth=None) | options
    if 'adapter' in backbone and isinstance(options.get('adapter'), dict):  # in its place, not merged into it
        options = options | dict(adapter=dict(_delete_=True) | options['adapter'])
    imports = cfg.get('custom_imports') or {}
    names = imports.get('imports') or []
    settings = dict(
        custom_imports=dict(imports=[*([names] if isinstance(names, str) else names), 'mmscalenet'],
                            allow_failed_imports=imports.get('allow_failed_imports', False)),
        model=dict(backbone=grows | options))
    # what a work directory's config says of its own run; a new run would write into that folder
    settings |= {key: value for key, value in (('work_dir', None), ('resume', False)) if cfg.get(key)}
    if said := factor_rates(cfg, options):
        settings['optim_wrapper'] = said
    settings['custom_imports']['imports'] = list(dict.fromkeys(settings['custom_imports']['imports']))
    for keys in initialised(cfg.model):
        part = settings['model']
        for key in keys[:-1]:
            part = part.setdefault(key, {})
        part[keys[-1]] = None
    return settings


def factor_rates(cfg: Config, options: dict) -> dict | None:
    """What the ``optim_wrapper`` of a config has to say of gates and of the factors of ``inject``.

    Those that start at 0 hardly open at the rate of weights, and no gate is to decay towards 0.

    Args:
        cfg (Config): The config of the base.
        options (dict): Options of :func:`mmscalenet.expand` by their names, beside those in the config.

    Returns:
        dict | None: Nothing to say is {}. None where it cannot be said: the config has rates of its own for gates or
            for the backbone, or optimizers that are made in a way of their own.
    """
    options = dict(cfg.model.backbone) | options
    keys = {}
    if options.get('gate') is not None:
        keys['.gate'] = {} if options['gate'] else dict(lr_mult=10.)
    if options.get('inject'):
        keys['.inject'] = dict(lr_mult=10.)
    optim_wrapper = cfg.get('optim_wrapper')
    if not keys or not optim_wrapper:
        return {}
    optimizer = optim_wrapper.get('optimizer') if isinstance(optim_wrapper, dict) else None
    constructor = optimizer and (optim_wrapper.get('constructor') or 'DefaultOptimWrapperConstructor')
    if not isinstance(optimizer, dict) or isinstance(constructor, dict) \
            or short_type(dict(type=constructor)) not in READ_CUSTOM_KEYS:
        return None
    paramwise = optim_wrapper.get('paramwise_cfg') or {}
    known = paramwise.get('custom_keys') or {}
    # the longest key that is in a name counts
    if 'gate_lr_mult' in paramwise or any(re.search(r'backbone|positions|\b(gate|inject)\b', key) for key in known):
        return None
    if optimizer.get('weight_decay') is not None:  # mmengine refuses a factor of a decay that there is none of
        keys = {name: rates | dict(decay_mult=0.) for name, rates in keys.items()}
    keys = {name: rates for name, rates in keys.items() if rates}
    if not keys:
        return {}
    # in the place of a None, with which nothing is merged
    whole = dict(_delete_=True)
    said = dict(custom_keys=keys | (whole if 'custom_keys' in paramwise and not known else {}))
    return dict(paramwise_cfg=said | (whole if 'paramwise_cfg' in optim_wrapper and not paramwise else {}))


def initialised(part: dict, keys: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Where a model names files to start from, through dicts alone: an entry of a list is not inherited apart."""
    for key, value in part.items():
        files = value if isinstance(value, (list, tuple)) else [value]
        if (key == 'pretrained' and value) or (
                key == 'init_cfg' and any(isinstance(file, dict) and 'checkpoint' in file for file in files)):
            yield *keys, key
        elif isinstance(value, dict):
            yield from initialised(value, (*keys, key))


def write_grown(path: str | os.PathLike, base: str, settings: dict) -> None:
    """Write the short config: ``base`` is the path of the one that it inherits from, relative to its own folder."""
    lines = [f'_base_ = {base!r}', '']
    for key, value in settings.items():
        lines += [f'{key} = {as_written(value)}', '']
    with open(path, 'w') as file:
        file.write('\n'.join(lines).rstrip() + '\n')


def as_written(value: object) -> str:
    """A value as people write it in configs: ``dict(a=1)``, and 4/3 for that fraction."""
    if isinstance(value, Fraction):
        return str(value)
    if isinstance(value, str) and '{{' in value:  # mmengine puts a path in, which may hold a quote
        return f'r"""{value}"""'
    if isinstance(value, dict):
        if all(isinstance(key, str) and key.isidentifier() for key in value):
            return f'dict({", ".join(f"{key}={as_written(entry)}" for key, entry in value.items())})'
        return f'{{{", ".join(f"{key!r}: {as_written(entry)}" for key, entry in value.items())}}}'
    if isinstance(value, (list, tuple)):
        inside = ', '.join(map(as_written, value))
        return f'[{inside}]' if isinstance(value, list) else f'({inside}{"," * (len(value) == 1)})'
    return repr(value)
