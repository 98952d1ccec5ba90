"""The config of a grown model as one of its library alone."""
from collections.abc import Iterator

from mmengine.config import Config

from mmscalenet.engine import full_type, library_of
from mmscalenet.engine.grown_config import initialised


def without_mmscalenet(cfg: Config) -> list[str]:
    """Take out of a config, in place, what a model of plain classes has no use for.

    That are the files that its parts would start from, hooks of ours (depth does not change any more, curves are of the
    old run), our constructor of the optimizer, and the import of this package where nothing else names it.

    Args:
        cfg (Config): The config, whose backbones are plain.

    Returns:
        list[str]: What there is to say, a line each.
    """
    remarks = []
    for keys in list(initialised(cfg.model)):
        part = cfg.model
        for key in keys[:-1]:
            part = part[key]
        del part[keys[-1]]
    for key in ('work_dir', 'resume'):
        cfg.pop(key, None)
    hooks = cfg.get('custom_hooks') or []
    if kept := [hook for hook in hooks if not full_type(hook).startswith('mmscalenet.')]:
        cfg.custom_hooks = kept
    else:
        cfg.pop('custom_hooks', None)
    wrapper = cfg.get('optim_wrapper') or {}
    if str(wrapper.get('constructor', '')).startswith('mmscalenet.'):
        del wrapper['constructor']
        remarks.append('optim_wrapper.constructor, which is of mmscalenet, was left out: what paramwise_cfg says to '
                       'it, as layer_decay_rate, has no effect.')
    _imports(cfg, remarks)
    return remarks


def _imports(cfg: Config, remarks: list[str]) -> None:
    """What the config has to import: no longer mmscalenet, or no longer in any case."""
    imports = cfg.get('custom_imports') or {}
    names = imports.get('imports') or []
    names = [name for name in ([names] if isinstance(names, str) else names) if name.split('.')[0] != 'mmscalenet']
    allowed = imports.get('allow_failed_imports', False)
    other = {kind.split('.')[0] for kind in _types(cfg.model)} & {'mmpretrain', 'mmdet', 'mmseg'} - {library_of(cfg)}
    names += [f'{library}.models' for library in sorted(other) if f'{library}.models' not in names]
    settings = {key: value for key, value in cfg.items() if key != 'custom_imports'}
    if needed := sorted({kind for kind in _types(settings) if kind.startswith('mmscalenet.')}):
        names.append('mmscalenet')
        in_model = any(kind.startswith('mmscalenet.') for kind in _types(cfg.model))
        allowed = allowed or not in_model
        remarks.append(f'mmscalenet is still needed for {", ".join(needed)}'
                       + ('.' if in_model else ', which the model is not made of: it loads without.'))
    if names:
        cfg.custom_imports = dict(imports=list(dict.fromkeys(names)), allow_failed_imports=allowed)
    else:
        cfg.pop('custom_imports', None)


def _types(part: object) -> Iterator[str]:
    """All types that a part of a config names, and what else names a function or class of mmscalenet."""
    if isinstance(part, dict):
        for key, value in part.items():
            if key == 'type':
                yield full_type(part)
            else:
                yield from _types(value)
    elif isinstance(part, (list, tuple)):
        for value in part:
            yield from _types(value)
    elif isinstance(part, str) and part.startswith('mmscalenet.'):
        yield part
