"""The constructors of mmdet and mmseg for layer-wise learning rates, on a backbone that has grown."""
from collections.abc import Iterator
from importlib import import_module

from mmengine.config import Config
from torch import nn

from mmscalenet.expansion import Expanded, position_lists
from mmscalenet.expansion.expanded import name_in_base

NAMES = ('LearningRateDecayOptimizerConstructor', 'LayerDecayOptimizerConstructor')


class UnderBaseNames:
    """Stands before such a constructor, which takes the number of a block from the names of its parameters.

    What a position owns, and a copy of a block, get the rate of the base's block at the same relative depth.
    """

    def add_params(self, params: list[dict], module: nn.Module, **kwargs) -> None:
        is_grown = isinstance(getattr(module, 'backbone', None), Expanded)
        super().add_params(params, _Renamed(module) if is_grown else module, **kwargs)


class _Renamed:
    """A model whose parameters have the names of its base's blocks."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.backbone = model, model.backbone

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        lists = position_lists(self.backbone)
        for name, parameter in self.model.named_parameters():
            part, _, rest = name.partition('.')
            yield f'backbone.{name_in_base(rest, lists)}' if part == 'backbone' else name, parameter


def let_libraries_count_positions(cfg: Config) -> None:
    """Have the constructor that a config names take the names of a grown backbone."""
    optim_wrapper = cfg.get('optim_wrapper') or {}
    kind = optim_wrapper.get('constructor') or ''
    if isinstance(kind, type):  # a config of classes
        library, name = kind.__module__.split('.')[0], kind.__name__
    else:
        library, _, name = kind.rpartition('.')
    library = library or cfg.get('default_scope')
    if name in NAMES and library in ('mmdet', 'mmseg'):
        theirs = getattr(import_module(f'{library}.engine.optimizers'), name)
        import_module(f'{library}.registry').OPTIM_WRAPPER_CONSTRUCTORS.register_module(
            name=name, module=type(name, (UnderBaseNames, theirs), {}), force=True)
        optim_wrapper['constructor'] = f'{library}.{name}'
