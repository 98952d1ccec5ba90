"""The depth of a model's expanded backbones: asked for on the command line, and kept in checkpoints."""
import argparse
from collections.abc import Iterator

from mmengine.config import Config
from torch import nn

from mmscalenet.expansion import Expanded, PositionList, position_lists
from mmscalenet.models.backbones.scalenet import depth_is_its_parents

from .cli import full_type
from .errors import UsageError
from .parallel import ddp_arguments, hooks_of


def expanded_backbones(model: nn.Module) -> dict[str, Expanded]:
    """The expanded backbones in a model by their names."""
    return {name: module for name, module in model.named_modules() if isinstance(module, Expanded)}


def add_depth_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--depth', nargs='+', type=int, metavar='N', help='how many positions of the grown backbone '
                        'run; for Swin of all stages together, or one number a stage; default: as trained')


def use_depth(cfg: Config, depth: list[int] | None) -> None:
    """Have the grown backbones of a config run at ``depth``, what ``--depth`` gives; None leaves them as they are.

    Raises:
        UsageError: If the config has none, or one to whose parent ``depth`` means something else.
    """
    if depth is None:
        return
    found = list(grown_configs(cfg.model))
    for backbone in found:
        if depth_is_its_parents(backbone):
            raise UsageError(f'--depth is not for a config with base={backbone["base"]!r}: its own argument has that '
                             'name. In Python `backbone.set_depth` changes how many positions run.')
        backbone['depth'] = depth[0] if len(depth) == 1 else depth
    if not found:
        raise UsageError('--depth needs a config with a ScaleNet backbone, whose depth can change, and this one has '
                         'none.')


def grown_configs(part: object) -> Iterator[dict]:
    """The configs of ScaleNet backbones in that of a model."""
    if isinstance(part, dict):
        if 'ScaleNet' in full_type(part):
            yield part
        for value in part.values():
            yield from grown_configs(value)
    elif isinstance(part, (list, tuple)):
        for value in part:
            yield from grown_configs(value)


def let_depth_change(cfg: Config) -> None:
    """Tell DistributedDataParallel of a config whose backbone does not always run as a whole that parameters may get no
    gradient."""
    shallow = any(backbone.get('depth') is not None and not depth_is_its_parents(backbone)
                  for backbone in grown_configs(cfg.get('model')))
    if shallow or hooks_of(cfg, 'DepthHook'):
        cfg.find_unused_parameters = True
        if wrapper := ddp_arguments(cfg):
            wrapper.find_unused_parameters = True


def keep_depth(model: nn.Module, checkpoint: dict) -> None:
    """Write into a checkpoint at which depth its weights are to be run."""
    checkpoint.setdefault('meta', {})['depth'] = {
        name: backbone.active_depth for name, backbone in expanded_backbones(model).items()}


def take_depth(model: nn.Module, checkpoint: dict) -> None:
    """Run a model at the depth that the checkpoint it was loaded from says, where its config says none."""
    kept = (checkpoint.get('meta') or {}).get('depth') or {}
    for name, backbone in expanded_backbones(model).items():
        # in a model that holds the one of the checkpoint, as SoftTeacher does a detector, the names are longer
        known = next((depth for kept_name, depth in kept.items() if f'.{name}'.endswith(f'.{kept_name}')), None)
        if known is not None and backbone.chosen_depth is None:
            backbone.set_depth(known)


def start_added(model: nn.Module) -> Iterator[tuple[nn.Parameter, nn.Parameter]]:
    """Give the norms and copies that added positions of a model's backbones own the weights that their blocks have.

    Returns:
        Iterator[tuple[nn.Parameter, nn.Parameter]]: Their parameters, each with that of the block.
    """
    started = [pair for positions in _position_lists(model) for pair in positions.start_added()]
    return (pair for own, source in started for pair in zip(own.parameters(), source.parameters(), strict=True))


def added_are_trained(model: nn.Module) -> bool:
    """Whether a file has brought norms and copies of added positions that differ from what they start from."""
    return any(positions.loaded and positions.added_differ() for positions in _position_lists(model))


def _position_lists(model: nn.Module) -> list[PositionList]:
    return [positions for backbone in expanded_backbones(model).values()
            for positions in position_lists(backbone).values()]
