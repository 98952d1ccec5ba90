"""``expand``: a built backbone in, the same backbone with more positions out."""
import copy
import inspect
import logging
import math
from collections.abc import Sequence

import torch
import torch.nn as nn
from mmengine.logging import print_log

from mmscalenet.registry import ADAPTERS

from .adapters import Adapter
from .container import PositionList
from .expanded import Expanded, bind, position_lists
from .families import block_owners, checkpoints_itself, prepare_block, window_period
from .layer_map import LAYER_MAPS, added_positions, build_layer_map, position_of_block
from .position import Position

ALLOWED_UNSHARE = (None, 'norms')
ALLOWED_FREEZE = (None, 'base')


def expand(backbone: nn.Module,
           scale: float | Sequence[float] = 2,
           layer_map: str | Sequence = 'cyclic',
           adapter: dict | None = dict(type='ParallelAdapter'),
           share: bool = True,
           gate: float | None = None,
           unshare: str | None = None,
           freeze: str | None = None,
           with_cp: bool = False,
           drop_path_rate: float | None = None) -> nn.Module:
    """Expand a backbone in depth: ScaleNet, arXiv 2510.18431.

    Works in place on mmpretrain's VisionTransformer, DistilledVisionTransformer and SwinTransformer, mmdet's and
    mmseg's SwinTransformer and mmseg's VisionTransformer, and, with the adapter beside the whole block, on any backbone
    that runs ``for layer in self.layers`` or ``for block in stage.blocks``. The weights in it are kept.

    Args:
        backbone (nn.Module): A built, unexpanded backbone.
        scale (float | Sequence[float]): Positions per block, from 1 on; need not be whole (1.5: 18 positions of 12
            blocks). For Swin also one number per stage. Defaults to 2, the paper's.
        layer_map (str | Sequence): 'cyclic' (the paper's), 'interleaved', 'middle_cycle', or the block of every
            position as a list of ints (Swin: one list per stage), which then also decides the number of positions.
            Defaults to 'cyclic'.
        adapter (dict, optional): Config of what every position owns: 'ParallelAdapter', 'LoRA', a class of yours in
            ``mmscalenet.ADAPTERS``, or the class itself. None shares without adapters. Defaults to
            ``dict(type='ParallelAdapter')``.
        share (bool): Whether positions share the blocks. False copies them: progressive stacking, the usual
            baseline. Defaults to True.
        gate (float, optional): Start value of a learnt factor on the two residual branches of the *added* positions
            (ReZero, arXiv 2003.04887; zero start for new blocks: LLaMA Pro, arXiv 2401.02415). 0 makes the expanded
            net's last output equal the base's exactly at the start, and its other taps where the map keeps them (a
            warning says where not); give the gates a larger learning rate, e.g.
            ``paramwise_cfg=dict(custom_keys={'gate': dict(lr_mult=10., decay_mult=0.)})``. Defaults to None: no gate.
        unshare (str, optional): 'norms' gives the added positions layer norms of their own (MiniViT, arXiv
            2204.07154). Defaults to None.
        freeze (str, optional): 'base' trains only what positions own, and the copies of ``share=False``. Defaults to
            None: train all, as the paper.
        with_cp (bool): Recompute each position in the backward pass to save memory. Defaults to False.
        drop_path_rate (float, optional): Stochastic depth of the last position; it grows linearly from 0 over the
            positions. Defaults to None: the rate of the base's last block.

    Returns:
        nn.Module: ``backbone`` itself. ``out_indices`` keeps counting blocks: a tap on block i moves to the position of
        the same relative depth, ``scale * (i + 1) - 1``.

    Raises:
        ValueError: If an argument is not allowed; the message names it, its value and what is allowed. The backbone
            is then unchanged.
        TypeError: If it is not known where the backbone keeps its blocks.
    """
    if not isinstance(backbone, nn.Module):
        raise TypeError(f'expand takes a built backbone, not {backbone!r}')
    if position_lists(backbone):
        raise ValueError('this backbone is expanded already; expand the base once, with the scale you want')
    _check_options(adapter, share, gate, unshare, freeze, with_cp, drop_path_rate)
    owners = block_owners(backbone)
    lists = {name: list(getattr(owner, attribute)) for name, (owner, attribute) in owners.items()}
    maps = _layer_maps(lists, scale, layer_map)
    if gate is not None:
        _check_first_uses(maps)

    # build everything before the backbone is touched, so that an error leaves it as it was
    rates = iter(_drop_path_rates(lists, maps, drop_path_rate))
    containers, taps = {}, _moved_taps(backbone, maps)
    if gate == 0 and taps is not None:
        _warn_of_deeper_taps(maps['layers'], taps)
    for name, blocks in lists.items():
        layer_map = maps[name]
        positions = []
        for block, is_added in zip((blocks[i] for i in layer_map), added_positions(layer_map), strict=True):
            positions.append(Position(
                block,
                adapter=_build_adapter(adapter, block),
                gate=gate if is_added else None,
                own_norms=unshare == 'norms' and is_added,
                drop_path=next(rates),
                with_cp=with_cp or checkpoints_itself(block)))
        if not share:
            blocks = [copy.deepcopy(blocks[i]) if is_added else blocks[i]
                      for i, is_added in zip(layer_map, added_positions(layer_map), strict=True)]
        containers[name] = (blocks, layer_map, positions)

    for name, (owner, attribute) in owners.items():
        blocks, layer_map, positions = containers[name]
        for block in blocks:
            prepare_block(block)
        container = PositionList(blocks, layer_map, positions, share)
        container.positions.to(next(blocks[0].parameters()))  # device and dtype
        container.train(backbone.training)
        setattr(owner, attribute, container)
    if taps is not None:
        backbone.out_indices = taps
    if not isinstance(backbone, Expanded):
        backbone.__class__ = bind(Expanded, type(backbone))
    backbone.freeze = freeze
    backbone.apply_freezing()
    return backbone


def _check_options(adapter: object, share: object, gate: object, unshare: object, freeze: object, with_cp: object,
                   drop_path_rate: object) -> None:
    if adapter is not None and _adapter_class(adapter) is None:
        raise ValueError(f'adapter={adapter!r} is not allowed; allowed are None or a dict whose type is one of '
                         f'{sorted(ADAPTERS.module_dict)} or a subclass of Adapter')
    for name, value in (('share', share), ('with_cp', with_cp)):
        if not isinstance(value, bool):
            raise ValueError(f'{name}={value!r} is not allowed; give True or False')
    if gate is not None and not _is_finite(gate):
        raise ValueError(f'gate={gate!r} is not allowed; give None or a finite number, e.g. 0 for a lossless start')
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
    if not (_is_finite(rate) and 0 <= rate < 1):
        raise ValueError(f'drop_path_rate={rate!r} is not allowed; give a number in [0, 1)')


def _is_finite(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _layer_maps(lists: dict[str, list], scale: object, layer_map: object) -> dict[str, list[int]]:
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
    result = {}
    for (name, blocks), one_scale, one_map in zip(lists.items(), scales, maps, strict=True):
        try:
            # a stage of one block has no shifted one to alternate with
            period = min(window_period(blocks[0]), len(blocks))
            result[name] = build_layer_map(one_map, len(blocks), one_scale, period)
        except ValueError as error:
            raise ValueError(f'{name}: {error}') from None
    return result


def _is_sequence(value: object) -> bool:
    return isinstance(value, (list, tuple))


def _check_first_uses(maps: dict[str, list[int]]) -> None:
    for name, layer_map in maps.items():
        firsts = [block for block, is_added in zip(layer_map, added_positions(layer_map), strict=True) if not is_added]
        if firsts != sorted(firsts):
            raise ValueError(f'{name}: gate needs a layer_map whose first uses run the blocks in their own order, and '
                             f'layer_map={layer_map} first uses them as {firsts}')


def _drop_path_rates(lists: dict[str, list], maps: dict[str, list[int]], last: float | None) -> list[float]:
    """One rate for every position."""
    own = [max([float(module.drop_prob) for module in block.modules() if type(module).__name__ == 'DropPath'] or [0.])
           for blocks in lists.values() for block in blocks]
    total = sum(map(len, maps.values()))
    if last is None and total == len(own):
        return own  # to the bit, however the parent computes them
    return torch.linspace(0, max(own) if last is None else last, total, dtype=torch.float64).tolist()


def _adapter_class(config: object) -> type[Adapter] | None:
    """None for what is not an adapter's config. A class as the type is what mmengine's configs of classes give."""
    kind = config.get('type') if isinstance(config, dict) else None
    if isinstance(kind, str):
        return ADAPTERS.get(kind)
    return kind if isinstance(kind, type) and issubclass(kind, Adapter) else None


def _build_adapter(config: dict | None, block: nn.Module) -> nn.Module | None:
    if config is None:
        return None
    options = {key: value for key, value in config.items() if key != 'type'}
    norm = next((module for module in block.modules() if isinstance(module, nn.LayerNorm)), None)
    if norm is None:
        raise ValueError(f'adapter={config!r} is not possible for a {type(block).__name__}, which has no LayerNorm to '
                         'tell its channels; allowed there is adapter=None')
    try:
        return _adapter_class(config)(block, norm.normalized_shape[-1], **options)
    except TypeError as error:
        known = list(inspect.signature(_adapter_class(config)).parameters)[2:]
        raise ValueError(f'adapter={config!r}: {error}; beside type it takes {", ".join(known)}') from None


def _moved_taps(backbone: nn.Module, maps: dict[str, list[int]]) -> list[int] | None:
    """``out_indices`` of a plain transformer counts layers: each goes to the position of the same relative depth. None
    for what stays: Swin's counts stages, and a backbone may have none."""
    if 'layers' not in maps or not hasattr(backbone, 'out_indices'):
        return None
    depth, length = max(maps['layers']) + 1, len(maps['layers'])
    wrong = [i for i in backbone.out_indices if not -depth <= i < depth]
    if wrong:
        raise ValueError(f'out_indices={list(backbone.out_indices)}: {wrong[0]} is not allowed; the backbone has '
                         f'blocks 0 to {depth - 1}')
    return [position_of_block(i if i >= 0 else depth + i, depth, length) for i in backbone.out_indices]


def _warn_of_deeper_taps(layer_map: list[int], taps: list[int]) -> None:
    """Say so where closed gates do not give the base's outputs: a tap sees all blocks whose first use is before it."""
    depth, length = max(layer_map) + 1, len(layer_map)
    lossy = [tap for tap in taps if position_of_block(len(set(layer_map[:tap + 1])) - 1, depth, length) != tap]
    if lossy:
        print_log(f"gate=0: the outputs at positions {lossy} do not start as the base's, as with this layer_map they "
                  "come after further blocks. layer_map='interleaved' keeps them", logger='current',
                  level=logging.WARNING)
