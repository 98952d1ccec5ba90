"""The options of ``expand``: what is allowed, and what they mean for every list of blocks."""
import math
from collections.abc import Mapping

import torch.nn as nn

from mmscalenet.registry import ADAPTERS

from .adapters import Adapter
from .families import runs_of, runs_once, window_period
from .layer_map import LAYER_MAPS, added_positions, build_layer_map
from .recompute import LIGHT

ALLOWED_UNSHARE = (None, 'norms')
ALLOWED_FREEZE = (None, 'base')
#: The gate of sub-steps: N uses of a block weigh 1/N each.
SUB_STEPS = '1/N'


def check_options(adapter: object, share: object, gate: object, inject: object, unshare: object, freeze: object,
                  with_cp: object, drop_path_rate: object) -> None:
    """Raise a ValueError for an option whose value means nothing, alone or beside the others."""
    if adapter is not None and adapter_class(adapter) is None:
        raise ValueError(f'adapter={adapter!r} is not allowed; allowed are None or a dict whose type is one of '
                         f'{sorted(ADAPTERS.module_dict)} or a subclass of Adapter')
    for name, value in (('share', share), ('inject', inject)):
        if not isinstance(value, bool):
            raise ValueError(f'{name}={value!r} is not allowed; give True or False')
    if not isinstance(with_cp, bool) and with_cp != LIGHT:
        raise ValueError(f'with_cp={with_cp!r} is not allowed; give True, False or {LIGHT!r}')
    if gate not in (None, SUB_STEPS) and not is_finite(gate):
        raise ValueError(f'gate={gate!r} is not allowed; give None, {SUB_STEPS!r} or a finite number, e.g. 0 for a '
                         'lossless start')
    if unshare not in ALLOWED_UNSHARE:
        raise ValueError(f'unshare={unshare!r} is not allowed; allowed are {ALLOWED_UNSHARE}')
    if unshare and not share:
        raise ValueError(f'unshare={unshare!r} has no meaning with share=False, where nothing is shared')
    if freeze not in ALLOWED_FREEZE:
        raise ValueError(f'freeze={freeze!r} is not allowed; allowed are {ALLOWED_FREEZE}')
    if drop_path_rate is not None:
        check_drop_path_rate(drop_path_rate)


def check_drop_path_rate(rate: object) -> None:
    """Raise a ValueError for what is no rate."""
    if not (is_finite(rate) and 0 <= rate < 1):
        raise ValueError(f'drop_path_rate={rate!r} is not allowed; give a number in [0, 1)')


def is_finite(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def core_of_each(lists: Mapping[str, list], core: object) -> dict[str, object]:
    """The argument ``core`` for every list of blocks; what is in it is checked with the layer map."""
    if core is None or (len(lists) == 1 and not (_is_sequence(core) and len(core) == 1)):
        return dict.fromkeys(lists, core)
    if not _is_sequence(core) or len(core) != len(lists):
        raise ValueError(f'core={core!r} is not allowed; give, for every list of blocks ({", ".join(lists)}), the '
                         'first and the last block of the part that runs again, or None')
    return dict(zip(lists, core, strict=True))


def layer_maps(lists: Mapping[str, list], scale: object, layer_map: object, core: object) -> dict[str, list[int]]:
    """One checked layer map for every list of blocks."""
    count = len(lists)
    scales = list(scale) if isinstance(scale, (list, tuple)) else [scale] * count
    if len(scales) != count:
        raise ValueError(f'scale={scale!r} has {len(scales)} numbers; allowed are one number, or {count}: one for '
                         f'every list of blocks ({", ".join(lists)})')
    if isinstance(layer_map, str) or (count == 1 and _is_sequence(layer_map) and not any(map(_is_sequence, layer_map))):
        maps = [layer_map] * count
    elif _is_sequence(layer_map) and len(layer_map) == count and all(map(_is_sequence, layer_map)):
        maps = list(layer_map)
    else:
        raise ValueError(f'layer_map={layer_map!r} is not allowed; give one of {sorted(LAYER_MAPS)} or, for every list '
                         f'of blocks ({", ".join(lists)}), a list with the block of every position')
    result, cores = {}, core_of_each(lists, core)
    for (name, blocks), one_scale, one_map in zip(lists.items(), scales, maps, strict=True):
        try:
            result[name] = _layer_map(blocks, one_map, one_scale, cores[name])
        except ValueError as error:
            raise ValueError(f'{name}: {error}') from None
    return result


def _layer_map(blocks: list[nn.Module], layer_map: object, scale: object, core: object) -> list[int]:
    """Of one list, run by run where blocks stand between that cannot run again."""
    runs = runs_of(blocks)
    if len(runs) == 1:
        return build_layer_map(layer_map, len(blocks), scale, window_period(blocks), core)
    if core is not None:
        raise ValueError(f'core={core!r} is not possible where some blocks cannot run again; give the block of every '
                         'position as layer_map')
    if isinstance(layer_map, str):
        return [run.start + block for run in runs
                for block in build_layer_map(layer_map, len(run), 1 if runs_once(blocks[run.start]) else scale)]
    result = build_layer_map(layer_map, len(blocks), scale)
    number = {block: i for i, run in enumerate(runs) for block in run}
    if [number[block] for block in result] != sorted(number[block] for block in result):
        raise ValueError(f'layer_map={layer_map} leaves a size and comes back to it; blocks of one size are '
                         f'{", ".join(f"{run.start} to {run.stop - 1}" for run in runs)}')
    twice = [block for block in set(result) if result.count(block) > 1 and runs_once(blocks[block])]
    if twice:
        raise ValueError(f'layer_map={layer_map} runs block {twice[0]} again, a '
                         f'{type(blocks[twice[0]]).__name__} that must run once')
    return result


def _is_sequence(value: object) -> bool:
    return isinstance(value, (list, tuple))


def check_first_uses(maps: Mapping[str, list[int]]) -> None:
    """Raise a ValueError where the first uses alone are not the base, which a gate of 0 would start from."""
    for name, layer_map in maps.items():
        firsts = [block for block, is_added in zip(layer_map, added_positions(layer_map), strict=True) if not is_added]
        if firsts != sorted(firsts):
            raise ValueError(f'{name}: gate needs a layer_map whose first uses run the blocks in their own order, and '
                             f'layer_map={layer_map} first uses them as {firsts}')


def adapter_class(config: object) -> type[Adapter] | None:
    """None for what is not an adapter's config. A class as the type is what mmengine's configs of classes give."""
    kind = config.get('type') if isinstance(config, dict) else None
    if isinstance(kind, str):
        return ADAPTERS.get(kind)
    return kind if isinstance(kind, type) and issubclass(kind, Adapter) else None
