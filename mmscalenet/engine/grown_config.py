"""The config of a grown model, as a few lines on top of the user's own."""
import inspect
import os
from pathlib import Path

from mmengine.config import Config

from mmscalenet.expansion import expand

from .cli import full_type, library_of, read_config
from .errors import UsageError

#: Backbone of a library -> what grows it.
GROWN = {
    'mmpretrain.VisionTransformer': 'ScaleNetDeiT',
    'mmpretrain.DistilledVisionTransformer': 'ScaleNetDeiT',
    'mmpretrain.SwinTransformer': 'ScaleNetSwin',
    'mmdet.SwinTransformer': 'ScaleNetSwin',
    'mmseg.SwinTransformer': 'ScaleNetSwin',
    'mmseg.VisionTransformer': 'ScaleNetDeiT',
}
DEFAULT_ADAPTER = inspect.signature(expand).parameters['adapter'].default


def find_config(path: str) -> str:
    """The config that ``path`` names: itself, or of a work directory the newest that was kept in it.

    Raises:
        UsageError: If there is none.
    """
    if not os.path.isdir(path):
        return path
    configs = [file for file in Path(path).glob('*.py') if not file.name.startswith('.')]
    if not configs:
        raise UsageError(f'the work directory "{path}" holds no config. Give the one that it was trained with.')
    return str(max(configs, key=lambda file: (file.stat().st_mtime_ns, file.name)))


def read_base(path: str) -> Config:
    """The config of the base: a file, or what a library ships, as ``'mmdet::swin/...'``.

    Raises:
        UsageError: If it does not exist.
    """
    if '::' not in path:
        return read_config(path)
    try:
        return Config.fromstring(f'_base_ = {path!r}', '.py')
    except (FileNotFoundError, ImportError, KeyError, ValueError) as error:
        raise UsageError(f'config "{path}" does not exist, or its library does not say where it is: {error}') from None


def grown_settings(cfg: Config, options: dict, name: str) -> dict:
    """What a grown config says beside the one that it inherits from.

    Args:
        cfg (Config): The base's.
        options (dict): Options of :func:`mmscalenet.expand` by their names, dotted for parts of one, as
            ``adapter.ratio``.
        name (str): Name of the grown config and its checkpoint.

    Returns:
        dict: Its variables.

    Raises:
        UsageError: If the backbone cannot be grown.
    """
    backbone = (cfg.get('model') or {}).get('backbone')
    if not isinstance(backbone, dict) or not full_type(backbone):
        raise UsageError('the config has no model.backbone, and only that is grown. In Python mmscalenet.expand(...) '
                         'grows a backbone wherever it is.')
    grown = _grown_backbone(backbone, library_of(cfg))
    if any(key.startswith('adapter.') for key in options):
        grown.setdefault('adapter', DEFAULT_ADAPTER)
    merged = Config(dict(model=dict(_without_files(cfg.model), backbone=grown)))
    merged.merge_from_dict({f'model.backbone.{key}': value for key, value in options.items()})
    result = merged.to_dict()
    grown = result['model']['backbone']
    if 'adapter' in backbone and isinstance(grown.get('adapter'), dict):
        grown['adapter']['_delete_'] = True  # as it is None in the base, and a dict would be merged into it

    imports = cfg.get('custom_imports') or {}
    given = imports.get('imports') or []
    given = [given] if isinstance(given, str) else list(given)
    if 'mmscalenet' not in given:
        result['custom_imports'] = dict(imports=[*given, 'mmscalenet'],
                                        allow_failed_imports=imports.get('allow_failed_imports', False))
    if cfg.get('work_dir'):  # as in the config that a work directory keeps
        result['work_dir'] = f'./work_dirs/{name}'
    if cfg.get('resume'):
        result['resume'] = False
    # mmengine puts the config's own folder there
    result['load_from'] = f'{{{{ fileDirname }}}}/{name}.pth'
    return result


def grown_text(settings: dict, base: str) -> str:
    """The file of the grown config that inherits from ``base``."""
    return f'_base_ = {base!r}\n\n{Config(settings).pretty_text}'


def read_grown(settings: dict, base: str) -> Config:
    """The whole grown config, before it is written.

    Raises:
        UsageError: If nothing can inherit from ``base`` in this way.
    """
    base = base if '::' in base else os.path.abspath(base)
    try:
        cfg = Config.fromstring(grown_text(settings, base), '.py')
    except RuntimeError as error:  # mmengine's, of configs that import classes
        raise UsageError(f'config "{base}" is of mmengine\'s newer style, which a plain config cannot inherit from. '
                         f'Give the work directory of its run, which keeps a plain one. ({error})') from None
    cfg.default_scope = library_of(cfg)
    return cfg


def base_seen_from(folder: str | Path, base: str) -> str:
    """``base`` as a config in ``folder`` names it."""
    return base if '::' in base else os.path.relpath(os.path.realpath(base), os.path.realpath(folder))


def _grown_backbone(backbone: dict, library: str | None) -> dict:
    kind = full_type(backbone)
    name = kind.rpartition('.')[2]
    own = _without_files(backbone)
    if name in GROWN.values():
        if backbone.get('scale', 2) != 1 or backbone.get('adapter', True) is not None:
            raise UsageError(f'the backbone {kind} of the config is grown already, or has adapters. Give the config '
                             'and the checkpoint of a base: of the libraries, or with scale=1, adapter=None.')
        return dict(own, adapter=DEFAULT_ADAPTER)
    home = kind.split('.')[0] if '.' in kind else library
    parent = f'{home}.{name}'
    if parent not in GROWN:
        raise UsageError(f'the backbone {kind} of the config cannot be grown by this command; it grows '
                         f'{", ".join(GROWN)}. Others: mmscalenet.expand(backbone, ...) in Python.')
    result = dict(own, type=f'mmscalenet.{GROWN[parent]}')
    if home != library or name == 'DistilledVisionTransformer':
        result['base'] = parent
    return result


def _without_files(part: dict) -> dict:
    """What keeps a part of a model from loading other weights at its start, as the whole model's are there."""
    result = {}
    for key, value in part.items():
        if key == 'init_cfg' and any('checkpoint' in entry for entry in (value if isinstance(value, list) else [value])
                                     if isinstance(entry, dict)):
            result[key] = None
        elif key == 'pretrained' and isinstance(value, str):
            result[key] = None
        elif isinstance(value, dict) and (inner := _without_files(value)):
            result[key] = inner
    return result
