"""Taps: which outputs a backbone gives, counted in blocks by its config and in positions by its forward."""
import torch.nn as nn

from .families import COUNTED_LISTS
from .layer_map import position_of_block


def counted_list(names: object) -> str | None:
    """The list whose blocks ``out_indices`` counts, of those with these names."""
    return next((name for name in COUNTED_LISTS if name in names), None)


def tapped_blocks(backbone: nn.Module, lists: dict[str, list]) -> list[int] | None:
    """What the backbone's taps count in blocks; None where they count stages, which do not move.

    Raises:
        ValueError: If a tap is none of the blocks, or one that cannot be moved.
    """
    if hasattr(backbone, 'stage_indices'):  # MViT: the last block of every stage
        return list(backbone.stage_indices)
    if hasattr(backbone, 'num_main_blocks'):
        return _taps_of_main_blocks(backbone, lists['blocks'])
    name = counted_list(lists)
    if name is None or not hasattr(backbone, 'out_indices'):
        return None
    depth, after = len(lists[name]), len(getattr(backbone, 'ca_layers', ()))  # of XCiT, which counts these too
    wrong = [i for i in backbone.out_indices if not -depth <= i < depth + after]
    if wrong:
        raise ValueError(f'out_indices={list(backbone.out_indices)}: {wrong[0]} is not allowed; the backbone has '
                         f'blocks 0 to {depth + after - 1}')
    return [i if i >= 0 else depth + i for i in backbone.out_indices]


def _taps_of_main_blocks(backbone: nn.Module, blocks: list) -> list[int]:
    """HiViT counts its main blocks from 0, and with the same numbers those before them."""
    early = len(blocks) - backbone.num_main_blocks
    if any(i < early for i in backbone.out_indices):
        raise ValueError(f'out_indices={list(backbone.out_indices)} cannot be expanded: a number below {early} names '
                         f'one of the first blocks of a {type(backbone).__name__} and one of its main blocks at once')
    return list(backbone.out_indices)


def check_taps(backbone: nn.Module, blocks: list[int], lists: dict[str, nn.Module]) -> None:
    """Raise a ValueError where at some depth a tap on HiViT's main blocks would be one on those before them, too."""
    if not hasattr(backbone, 'num_main_blocks'):
        return
    positions = lists['blocks']
    for depth, running in positions.runnable.items():
        main = _main_positions(backbone, positions, running)
        for block in blocks:
            if position_of_block(block, backbone.depths[-1], main) < len(running) - main:
                raise ValueError(f'out_indices={blocks} cannot be expanded with this layer_map: at depth {depth} block '
                                 f'{block} of the main ones would have the number of one before them. Let the main '
                                 'blocks grow as much as the others')


def _main_positions(backbone: nn.Module, positions: nn.Module, running: list[int]) -> int:
    return sum(positions.layer_map[p] >= positions.num_base - backbone.depths[-1] for p in running)


def move_taps(backbone: nn.Module, blocks: list[int], lists: dict[str, nn.Module]) -> None:
    """Put the taps where these blocks are at the present depth of the lists of positions."""
    if hasattr(backbone, 'stage_indices'):
        backbone.stage_indices = {_last_until(block, lists['blocks']): stage for stage, block in enumerate(blocks)}
    elif hasattr(backbone, 'num_main_blocks'):
        backbone.num_main_blocks = _main_positions(backbone, lists['blocks'], lists['blocks'].running)
        backbone.out_indices = [position_of_block(block, backbone.depths[-1], backbone.num_main_blocks)
                                for block in blocks]
    else:
        positions = lists[counted_list(lists)]
        depth, length = positions.num_base, len(positions)
        backbone.out_indices = [position_of_block(block, depth, length) if block < depth else block - depth + length
                                for block in blocks]


def _last_until(block: int, positions: nn.Module) -> int:
    return sum(positions.layer_map[p] <= block for p in positions.running) - 1
