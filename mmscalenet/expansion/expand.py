"""``expand``: a built backbone in, the same backbone with more positions out."""
import copy
import inspect
import logging
from collections.abc import Sequence

import torch
import torch.nn as nn
from mmengine.logging import print_log

from .binding import bind
from .blocks import batch_norms_of, checkpoints_itself, kind_of, norms_of, width_of
from .container import PositionList
from .core import core_of, injections
from .depths import activation_order, resolve
from .expanded import Expanded, position_lists
from .families import block_owners, runs_of, runs_once, window_period
from .layer_map import added_positions, position_of_block
from .options import (
    SUB_STEPS,
    adapter_class,
    check_first_uses,
    check_options,
    core_of_each,
    is_finite,
    layer_maps,
)
from .position import Position
from .shared_block import prepare_block
from .taps import check_taps, counted_list, tapped_blocks
from .visit import is_drop_path


def expand(backbone: nn.Module,
           scale: float | Sequence[float] = 2,
           layer_map: str | Sequence = 'cyclic',
           core: Sequence | None = None,
           depth: int | Sequence[int] | None = None,
           adapter: dict | None = dict(type='ParallelAdapter'),
           share: bool = True,
           gate: float | str | None = None,
           inject: bool = False,
           unshare: str | None = None,
           freeze: str | None = None,
           with_cp: bool | str = False,
           drop_path_rate: float | None = None) -> nn.Module:
    """Expand a backbone in depth: ScaleNet, arXiv 2510.18431.

    Works in place on the transformers, and the hybrids and convolutional nets of their build, of mmpretrain, mmdet and
    mmseg (:mod:`~mmscalenet.expansion.families` has the list), and, with the adapter beside the whole block, on any
    backbone that runs ``for layer in self.layers`` or ``for block in stage.blocks``. The weights in it are kept.

    Args:
        backbone (nn.Module): A built, unexpanded backbone.
        scale (float | Sequence[float]): Positions per block, from 1 on; need not be whole (1.5: 18 positions of 12
            blocks). For Swin also one number per stage. Defaults to 2, the paper's.
        layer_map (str | Sequence): 'cyclic' (the paper's), 'interleaved', 'middle_cycle', or the block of every
            position as a list of ints (Swin: one list per stage), which then also decides the number of positions.
            Defaults to 'cyclic'.
        core (Sequence, optional): First and last block of the part that 'middle_cycle' runs again, e.g. ``(4, 7)``,
            which runs twice with ``scale=16 / 12`` of 12 blocks. For Swin one a stage, of whole pairs, or None:
            ``[None, None, (2, 3), None]`` with ``scale=[1, 1, 8 / 6, 1]``. Mixture-of-Recursions (arXiv 2507.10524),
            looped middles (arXiv 2511.07384). Defaults to None: all but the first and the last block, or pair.
        depth (int | Sequence[int], optional): How many positions run, from the base's depth on; for Swin of all stages
            together, or one number a stage. ``set_depth`` changes it at any time, see there. Defaults to None: all.
        adapter (dict, optional): Config of what every position owns: 'ParallelAdapter', 'LoRA', a class of yours in
            ``mmscalenet.ADAPTERS``, or the class itself. None shares without adapters. Defaults to
            ``dict(type='ParallelAdapter')``.
        share (bool): Whether positions share the blocks. False copies them: progressive stacking, the usual
            baseline. Defaults to True.
        gate (float | str, optional): Start value of a learnt factor on the two residual branches of the *added*
            positions (ReZero, arXiv 2003.04887; zero start for new blocks: LLaMA Pro, arXiv 2401.02415). 0 makes the
            expanded net's last output equal the base's exactly at the start, and its other taps where the map keeps
            them (a warning says where not); give the gates a larger learning rate, e.g.
            ``paramwise_cfg=dict(custom_keys={'gate': dict(lr_mult=10., decay_mult=0.)})``. '1/N': all N uses of a
            block start at 1/N, as sub-steps of one step (arXiv 2606.18524, 2605.23872); N counts those that run at the
            present depth. Defaults to None: no gate.
        inject (bool): Add the core's input again before every added pass and before what follows the core, with learnt
            factors that start at 0 (arXiv 2609.19107). For 'middle_cycle', and for 'cyclic', whose core is the whole
            net. Defaults to False.
        unshare (str, optional): 'norms' gives the added positions layer norms of their own (MiniViT, arXiv
            2204.07154). Defaults to None.
        freeze (str, optional): 'base' trains only what positions own, and the copies of ``share=False``. Defaults to
            None: train all, as the paper.
        with_cp (bool | str): Recompute each position in the backward pass to save memory. 'light' recomputes norms and
            activations alone, which costs next to no time. Defaults to False.
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
    for name, module in backbone.named_modules():
        if hasattr(module, '_orig_mod'):
            raise ValueError(f'{name or "the backbone"} is wrapped by torch.compile; expand first, and compile then')
    check_options(adapter, share, gate, inject, unshare, freeze, with_cp, drop_path_rate)
    owners = block_owners(backbone)
    lists = {name: list(getattr(owner, attribute)) for name, (owner, attribute) in owners.items()}
    _check_apart(lists)
    maps, cores = layer_maps(lists, scale, layer_map, core), core_of_each(lists, core)
    if is_finite(gate):
        check_first_uses(maps)
    _check_frozen(backbone, lists)
    tapped = tapped_blocks(backbone, lists)
    if gate == 0 and tapped is not None and (counted := counted_list(maps)):
        _warn_of_deeper_taps(maps[counted], tapped)

    # build everything before the backbone is touched, so that an error leaves it as it was
    rates = iter(_drop_path_rates(lists, maps, drop_path_rate))
    containers = {}
    for name, blocks in lists.items():
        one_map, added, period = maps[name], added_positions(maps[name]), window_period(blocks)
        if inject and len(runs_of(blocks)) > 1:
            raise ValueError(f'inject=True is not possible for {name}, where some blocks cannot run again')
        one_core = core_of(layer_map, len(blocks), cores[name], period) if inject else None
        injected = injections(one_map, one_core) if inject else []
        positions = [
            Position(
                blocks[i],
                adapter=None if runs_once(blocks[i]) else _build_adapter(adapter, blocks[i]),
                gate=_gate_of(gate, is_added, one_map.count(i)),
                divide=gate == SUB_STEPS,
                inject=p in injected,
                own_norms=_own_norms(blocks[i], unshare) if is_added and share else (),
                drop_path=next(rates),
                with_cp=with_cp or checkpoints_itself(blocks[i]))
            for p, (i, is_added) in enumerate(zip(one_map, added, strict=True))]
        containers[name] = PositionList(
            blocks if share else [_copy_of(blocks[i], freeze) if is_added else blocks[i]
                                  for i, is_added in zip(one_map, added, strict=True)],
            one_map, positions, share, _order(blocks, one_map, layer_map, period), period,
            core_entry=one_map.index(one_core[0]) if injected else None)
    if tapped is not None:
        check_taps(backbone, tapped, containers)
    if depth is not None:
        resolve({name: list(container.runnable) for name, container in containers.items()}, depth)

    for name, (owner, attribute) in owners.items():
        container = containers[name]
        for block in container.blocks:
            prepare_block(block, with_cp is True or checkpoints_itself(block))
        container.positions.to(next(container.blocks[0].parameters()))  # device and dtype
        container.train(backbone.training)
        setattr(owner, attribute, container)
    if not isinstance(backbone, Expanded):
        backbone.__class__ = bind(Expanded, type(backbone))
    backbone.tapped_blocks = tapped
    backbone.chosen_depth = depth
    backbone.set_depth([len(one_map) for one_map in maps.values()] if depth is None else depth)
    backbone.freeze = freeze
    backbone.apply_freezing()
    return backbone


def _order(blocks: list[nn.Module], one_map: list[int], name: object, period: int) -> list[list[int]]:
    """In which a growing depth takes in added positions; of a list of several runs, those of the last run, the
    deepest stage, first."""
    order = activation_order(one_map, name, period)
    number = {block: i for i, run in enumerate(runs_of(blocks)) for block in run}
    return sorted(order, key=lambda group: -number[one_map[group[0]]])


def _gate_of(gate: float | str | None, is_added: bool, uses: int) -> float | None:
    """Start value of a position's gate; that of sub-steps is divided by the uses that run."""
    if gate == SUB_STEPS:
        return 1. if uses > 1 else None
    return gate if is_added else None


def _check_apart(lists: dict[str, list]) -> None:
    """Raise a ValueError where a block runs more than once already, by being in the lists again."""
    seen = {}
    for name, blocks in lists.items():
        for i, block in enumerate(blocks):
            first = seen.setdefault(id(block), f'{name}.{i}')
            if first != f'{name}.{i}':
                raise ValueError(f'{name}.{i} is {first} once more, and a block can be in the lists once; leave it out '
                                 'there, and let layer_map say where it runs')


def _copy_of(block: nn.Module, freeze: str | None) -> nn.Module:
    """For ``share=False``. With ``freeze='base'`` it is what trains, though the base may have been frozen before."""
    block_copy = copy.deepcopy(block)
    return block_copy if freeze is None else block_copy.requires_grad_(True)


def _check_frozen(backbone: nn.Module, lists: dict[str, list]) -> None:
    """Raise a ValueError where the parent would freeze blocks that it looks for among the positions."""
    frozen = getattr(backbone, 'frozen_stages', -1)
    if frozen >= 0 and len(lists) == 1 and 'layers' not in lists:
        raise ValueError(f'frozen_stages={frozen} is not possible for an expanded {type(backbone).__name__}; allowed '
                         "there is -1, and freeze='base'")


def _own_norms(block: nn.Module, unshare: str | None) -> list[str]:
    """Of an added position: batch norms always, as their statistics are those of one use."""
    names = dict.fromkeys(batch_norms_of(block))
    if unshare == 'norms':
        if not norms_of(block):
            raise ValueError(f"unshare='norms' is not possible for a {type(block).__name__}: where its norms are is "
                             'not known; allowed there is unshare=None')
        names |= dict.fromkeys(norms_of(block))
    return list(names)


def _drop_path_rates(lists: dict[str, list], maps: dict[str, list[int]], last: float | None) -> list[float]:
    """One rate for every position."""
    every = [block for blocks in lists.values() for block in blocks]
    own = [max([float(module.drop_prob) for module in block.modules() if is_drop_path(module)] or [0.])
           for block in every]
    total = sum(map(len, maps.values()))
    if last is None and total == len(own):
        return own  # to the bit, however the parent computes them
    rates = torch.linspace(0, max(own) if last is None else last, total, dtype=torch.float64, device='cpu').tolist()
    # what changes the size has no identity to fall back on
    blocks = [lists[name][block] for name, one_map in maps.items() for block in one_map]
    return [0. if runs_once(block) and kind_of(block) is None else rate
            for block, rate in zip(blocks, rates, strict=True)]


def _build_adapter(config: dict | None, block: nn.Module) -> nn.Module | None:
    if config is None:
        return None
    options = {key: value for key, value in config.items() if key != 'type'}
    width = width_of(block)
    if width is None:
        raise ValueError(f'adapter={config!r} is not possible for a {type(block).__name__}, which has no LayerNorm to '
                         'tell its channels; allowed there is adapter=None')
    try:
        return adapter_class(config)(block, width, **options)
    except (TypeError, KeyError) as error:  # KeyError: no such activation
        known = list(inspect.signature(adapter_class(config)).parameters)[2:]
        raise ValueError(f'adapter={config!r}: {error}; beside type it takes {", ".join(known)}') from None


def _warn_of_deeper_taps(layer_map: list[int], tapped: list[int]) -> None:
    """Say so where closed gates do not give the base's outputs: a tap sees all blocks whose first use is before it."""
    depth, length = max(layer_map) + 1, len(layer_map)
    taps = [position_of_block(block, depth, length) for block in tapped if block < depth]
    lossy = [tap for tap in taps if position_of_block(len(set(layer_map[:tap + 1])) - 1, depth, length) != tap]
    if lossy:
        print_log(f"gate=0: the outputs at positions {lossy} do not start as the base's, as with this layer_map they "
                  "come after further blocks. layer_map='interleaved' keeps them", logger='current',
                  level=logging.WARNING)
