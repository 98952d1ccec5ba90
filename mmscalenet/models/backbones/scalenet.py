"""ScaleNet of any backbone, and what ScaleNetDeiT and ScaleNetSwin share with it: build the parent, and expand it."""
import difflib
import importlib
import inspect
from collections.abc import Iterable, Sequence

import torch.nn as nn
from mmengine.logging import print_log
from mmengine.registry import DefaultScope

from mmscalenet.checkpoints import load_pretrained
from mmscalenet.expansion import Expanded, expand, position_lists
from mmscalenet.expansion.binding import bind
from mmscalenet.expansion.options import check_drop_path_rate
from mmscalenet.registry import MODELS

#: Arguments of ``mmscalenet.expand`` that a config gives beside the parent's own.
EXPAND_ARGUMENTS = tuple(inspect.signature(expand).parameters)[1:]
LIBRARIES = ('mmpretrain', 'mmdet', 'mmseg')
#: The types of ``init_cfg`` that load a file, without scope or module -> prefix of the backbone's names in it; None: it
#: is found. mmseg's MultimodalEncoderDecoder gives all its parts one file, and with it the last type.
PREFIXES = {'Pretrained': None, 'PretrainedInit': None, 'Pretrained_Part': 'image_encoder.'}


@MODELS.register_module()
class ScaleNet(Expanded):
    """A backbone of mmpretrain, mmdet or mmseg, grown in depth by sharing its blocks: ScaleNet, arXiv 2510.18431.

    ``ScaleNet(base='mmpretrain.ConvNeXt', ...)`` is an instance of ScaleNet *and* of ConvNeXt. Which families can be
    expanded: :mod:`mmscalenet.expansion.families`.

    Args:
        base (str): The backbone to build on, by library and registered name: 'mmseg.MixVisionTransformer'. DeiT and
            Swin have classes of their own, :class:`ScaleNetDeiT` and :class:`ScaleNetSwin`, which find it themselves:
            the first that takes all given arguments, of the default scope (the library whose config it is), then of
            the others.
        **kwargs: Options of :func:`mmscalenet.expand` (``scale``, ``layer_map``, ``core``, ``depth``, ``adapter``,
            ``share``, ``gate``, ``inject``, ``unshare``, ``freeze``, ``with_cp``), and the parent's own arguments,
            which keep their meaning (XCiT's ``depth`` too; there ``set_depth`` chooses how many positions run).
            ``init_cfg=dict(type='Pretrained', checkpoint=...)`` loads a file of the parent, strictly.

    Inputs and outputs are the parent's.

    Raises:
        TypeError: If an argument is neither an option nor the parent's, or the parent cannot be expanded.
        ValueError: If a value is not allowed; the message says what is.

    Example:
        >>> backbone = ScaleNet(base='mmpretrain.ConvNeXt', arch='tiny', scale=2)
        >>> print(backbone.layer_table())
    """

    #: Library -> name of the parent in its registry.
    parents: dict[str, str] = {}

    def __new__(cls, *, base: str | None = None, **kwargs) -> 'ScaleNet':
        if '_parts' in vars(cls):  # the class of a backbone, which has its parent
            return object.__new__(cls)
        return object.__new__(bind(cls, _find_parent(cls, base, kwargs)))

    def __init__(self, *, base: str | None = None, **kwargs) -> None:
        parent = self._parts[1]
        options = {name: kwargs.pop(name) for name in _options_beside(parent) if name in kwargs}
        _use_init_cfg(kwargs)
        _check_init_cfg(kwargs.get('init_cfg'))
        if kwargs.get('drop_path_rate', 0) is None:  # the default of ``expand``; not every parent takes it
            del kwargs['drop_path_rate']
        if 'drop_path_rate' in kwargs:
            check_drop_path_rate(kwargs['drop_path_rate'])
        if self.parents:  # of DeiT and Swin it is known what they count
            count = _count_taps(parent, kwargs)
            if 'out_indices' in kwargs:
                kwargs['out_indices'] = _tidy_out_indices(kwargs['out_indices'], count)
            # mmpretrain's Swin counts from the first stage on, all others from what is before it
            first_stage = parent.__module__.startswith('mmpretrain.') and 'swin' in parent.__module__
            _check_frozen_stages(kwargs.get('frozen_stages', -1), count - first_stage)
        super().__init__(**kwargs)
        self.before_expansion()
        expand(self, **options)
        sizes = [f'{positions.num_base} blocks -> {len(positions.layer_map)} positions'
                 + f', {len(positions)} of them run' * (len(positions) < len(positions.layer_map))
                 for positions in position_lists(self).values()]
        print_log(f'{type(self).__name__}: {", ".join(sizes)}', logger='current')

    @classmethod
    def own_arguments(cls) -> tuple[str, ...]:
        """Names of arguments that are neither the parent's nor those of ``expand``."""
        return ()

    def before_expansion(self) -> None:
        """Called when the parent is built and not yet expanded."""

    def init_weights(self) -> None:
        """Load the checkpoint that ``init_cfg`` names, in any known format; without one, the parent's initialisation.

        Raises:
            CheckpointError: If the checkpoint does not fit or cannot be read safely.
        """
        configs = [self.init_cfg] if isinstance(self.init_cfg, dict) else self.init_cfg or []
        pretrained = [config for config in configs if _kind(config) in PREFIXES]
        if not pretrained:
            try:
                super().init_weights()
            except AssertionError as error:  # mmdet's and mmseg's Swin initialise themselves
                raise ValueError(f"init_cfg={self.init_cfg!r} is not allowed ({error}); give dict(type='Pretrained', "
                                 'checkpoint=FILE), or None') from None
            return
        # not through the parent: mmdet's and mmseg's load by themselves, and leave out silently what does not fit
        for config in pretrained:
            options = {key: value for key, value in config.items() if key not in ('type', 'map_location')}
            if wrong := options.keys() - {'checkpoint', 'prefix', 'trusted'}:
                raise TypeError(f'init_cfg={dict(config)} is not allowed: {", ".join(sorted(wrong))} is none of '
                                'checkpoint, prefix and trusted')
            load_pretrained(self, **dict(prefix=PREFIXES[_kind(config)]) | options)
        self._is_init = True


def _options_beside(parent: type) -> list[str]:
    """Arguments of ``expand`` that are not the parent's own: its rate of drop path is, and the depth of an XCiT."""
    kept = {'drop_path_rate', *({'depth'} & set(arguments_of(parent)))}
    return [name for name in EXPAND_ARGUMENTS if name not in kept]


def depth_is_its_parents(config: dict) -> bool:
    """Whether ``depth`` in the config of a ScaleNet is how many blocks its parent has, as an XCiT's."""
    library, _, name = str(config.get('base')).rpartition('.')
    parent = _look_up(library, name) if library in LIBRARIES else None
    return parent is not None and 'depth' in arguments_of(parent)


def _kind(init_cfg: dict) -> str:
    """The type of an ``init_cfg``, which may be a class or have a scope. A file alone is to be loaded."""
    kind = init_cfg.get('type', 'Pretrained' if 'checkpoint' in init_cfg else '')
    return (kind if isinstance(kind, str) else kind.__name__).rpartition('.')[2]


def _use_init_cfg(kwargs: dict) -> None:
    """Turn ``pretrained``, as mmseg's segmentors hand it on, into the ``init_cfg`` that it stands for."""
    checkpoint = kwargs.pop('pretrained', None)
    if checkpoint is None:
        return
    if not isinstance(checkpoint, str):
        raise TypeError(f'pretrained={checkpoint!r} is not allowed; give the path or URL of a file')
    if kwargs.get('init_cfg') is not None:
        raise ValueError(f'pretrained={checkpoint!r} and init_cfg={kwargs["init_cfg"]!r} both name the start weights; '
                         'give one of them')
    kwargs['init_cfg'] = dict(type='Pretrained', checkpoint=checkpoint)


def _check_init_cfg(init_cfg: object) -> None:
    parts = init_cfg if isinstance(init_cfg, (list, tuple)) else [init_cfg]
    if not all(part is None or isinstance(part, dict) and {'type', 'checkpoint'} & set(part) for part in parts):
        raise TypeError(f"init_cfg={init_cfg!r} is not allowed; give dict(type='Pretrained', checkpoint=FILE)")


def _find_parent(cls: type, base: str | None, kwargs: dict) -> type:
    """The class to build on; see :class:`ScaleNet`."""
    if base is not None:
        library, _, name = str(base).rpartition('.')
        parent = _look_up(library, name, needed=True) if library in LIBRARIES else None
        if not cls.parents:
            return _check_arguments(cls, {base: _any_backbone(base, parent)}, kwargs)
        family = tuple(filter(None, (_look_up(library, name) for library, name in cls.parents.items())))
        if parent is None or not issubclass(parent, family):
            allowed = ', '.join(f'{library}.{name}' for library, name in cls.parents.items())
            raise ValueError(f'base={base!r} is not a backbone of this family in an installed library; allowed are '
                             f'{allowed} and their subclasses')
        candidates = {base: parent}
    elif not cls.parents:
        raise ValueError(f"{cls.__name__} needs base, the backbone to build on, e.g. base='mmpretrain.ConvNeXt'")
    else:
        scope = DefaultScope.get_current_instance()
        order = sorted(cls.parents, key=lambda library: scope is None or library != scope.scope_name)
        candidates = {f'{library}.{cls.parents[library]}': _look_up(library, cls.parents[library]) for library in order}
        candidates = {name: parent for name, parent in candidates.items() if parent is not None}
        if not candidates:
            for library in order:  # the first that is broken says so
                _look_up(library, cls.parents[library], needed=True)
            raise ImportError(f'{cls.__name__} needs one of {", ".join(cls.parents)}; `python -m mmscalenet.doctor` '
                              'says how to get it')
    return _check_arguments(cls, candidates, kwargs)


def _any_backbone(base: str, parent: type | None) -> type:
    if parent is None or not issubclass(parent, nn.Module):
        raise ValueError(f"base={base!r} is not a backbone of an installed library; give one of "
                         f"{', '.join(LIBRARIES)}, like 'mmpretrain.ConvNeXt'")
    if issubclass(parent, Expanded):
        raise ValueError(f'base={base!r} is expanded already; give what it was built on')
    return parent


def _check_arguments(cls: type, candidates: dict[str, type], kwargs: dict) -> type:
    """The first of the candidates that takes all arguments."""
    own = {*EXPAND_ARGUMENTS, *cls.own_arguments()}
    for parent in candidates.values():
        if set(kwargs) <= own | set(arguments_of(parent)):
            return parent
    # the nearest one: min keeps the first of equals
    name, allowed = min(((name, own | set(arguments_of(parent))) for name, parent in candidates.items()),
                        key=lambda candidate: len(kwargs.keys() - candidate[1]))
    wrong = [f'{key}={value!r}{_similar(key, allowed)}' for key, value in kwargs.items() if key not in allowed]
    others = [other for other in candidates if other != name]
    raise TypeError(f'{cls.__name__} on {name} does not take {", ".join(wrong)}; allowed are {sorted(allowed)}'
                    + (f'. Nor does any of {others} take all arguments' if others else ''))


def _similar(name: str, allowed: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, allowed, n=1)
    return f' (did you mean {close[0]}?)' if close else ''


def _look_up(library: str, name: str, needed: bool = False) -> type | None:
    """The backbone; None if its library is not installed, or broken and not ``needed``."""
    try:
        return importlib.import_module(f'{library}.registry').MODELS.get(f'{library}.{name}')
    except ImportError:
        return None
    except Exception:
        if needed:
            raise
        return None


def arguments_of(parent: type) -> dict[str, object]:
    """Arguments of a class with their defaults, those taken through ``**kwargs`` included."""
    result = {}
    for owner in parent.__mro__:
        if '__init__' not in vars(owner):
            continue
        parameters = inspect.signature(owner.__init__).parameters.values()
        for parameter in parameters:
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                result.setdefault(parameter.name, parameter.default)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            break
    result.pop('self')
    return result


def _count_taps(parent: type, kwargs: dict) -> int:
    """What ``out_indices`` counts: layers of a plain transformer, stages of a Swin."""
    given = {**arguments_of(parent), **kwargs}
    if 'arch' in given:
        arch = given['arch']
        if isinstance(arch, str):
            if arch.lower() not in parent.arch_zoo:
                raise ValueError(f'arch={arch!r} is unknown; allowed are {sorted(parent.arch_zoo)} or a dict')
            arch = parent.arch_zoo[arch.lower()]
        if not isinstance(arch, dict) or not {'num_layers', 'depths'} & set(arch):
            raise ValueError(f'arch={arch!r} is not allowed; give a name of {sorted(parent.arch_zoo)} or a dict with '
                             'embed_dims, num_layers (ViT) or depths (Swin), and so on')
        given = arch
    return given['num_layers'] if 'num_layers' in given else len(given['depths'])


def _check_frozen_stages(frozen: object, count: int) -> None:
    if isinstance(frozen, bool) or not isinstance(frozen, int) or not -1 <= frozen <= count:
        raise ValueError(f'frozen_stages={frozen!r} is not allowed; give an integer from -1 (none) to {count}')


def _tidy_out_indices(out_indices: object, count: int) -> list[int]:
    """A new list of indices from 0 on: parents change a given list, and some let wrong ones pass silently."""
    indices = list(out_indices) if isinstance(out_indices, Sequence) else [out_indices]
    for index in indices:
        if isinstance(index, bool) or not isinstance(index, int) or not -count <= index < count:
            raise ValueError(f'out_indices={out_indices!r}: {index!r} is not allowed; give integers from {-count} to '
                             f'{count - 1}')
    if not indices:
        raise ValueError(f'out_indices={out_indices!r} asks for no output')
    if len({index % count for index in indices}) < len(indices):
        raise ValueError(f'out_indices={out_indices!r} names an output twice, and parents give it once')
    return [index % count for index in indices]
