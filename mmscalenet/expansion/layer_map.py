"""Layer maps: which block runs at each position. Pure functions, no torch.

A named map takes the number of blocks (or, for Swin, of plain-and-shifted pairs) and the number of positions, and gives
a list with the block of every position.
"""
from collections.abc import Callable, Sequence


def cyclic(depth: int, length: int) -> list[int]:
    """The blocks in order, again and again: ``0 1 2 0 1 2``. ScaleNet's mapping, arXiv 2510.18431."""
    return [p % depth for p in range(length)]


def interleaved(depth: int, length: int) -> list[int]:
    """Every copy beside its source: ``0 0 1 1 2 2``; better than stacking for converged models in "orthogonal growth"
    of unshared language-model layers."""
    return [p * depth // length for p in range(length)]


def middle_cycle(depth: int, length: int) -> list[int]:
    """First and last block once, those between in a cycle: ``0 1 2 1 2 3``; after Mixture-of-Recursions."""
    if depth < 3:
        return cyclic(depth, length)
    return [0] + [1 + p % (depth - 2) for p in range(length - 2)] + [depth - 1]


LAYER_MAPS: dict[str, Callable[[int, int], list[int]]] = {f.__name__: f for f in (cyclic, interleaved, middle_cycle)}


def num_positions(depth: int, scale: float) -> int:
    """Positions that ``depth`` blocks have at ``scale``.

    Raises:
        ValueError: If ``scale`` is below 1, not a number, or does not give a whole number of positions.
    """
    _check_scale(scale)
    exact = scale * depth
    length = round(exact)
    if abs(exact - length) > 1e-6 * exact:
        low, high = int(exact), int(exact) + 1
        raise ValueError(f'scale={scale!r} gives {exact:g} positions for {depth} blocks, which is not whole; allowed '
                         f'nearby: {low}/{depth} ({low} positions) or {high}/{depth} ({high} positions)')
    return length


def _check_scale(scale: object) -> None:
    if isinstance(scale, bool) or not isinstance(scale, (int, float)):
        raise ValueError(f'scale={scale!r} is not a number; allowed are numbers from 1 on, e.g. 2 or 1.5')
    if not 1 <= scale < float('inf'):
        raise ValueError(f'scale={scale!r} is not allowed; a depth can only grow: give a finite number from 1 on')


def added_positions(layer_map: Sequence[int]) -> list[bool]:
    """For every position whether it is an added one: not the first use of its block."""
    return [block in layer_map[:p] for p, block in enumerate(layer_map)]


def position_of_block(block: int, depth: int, length: int) -> int:
    """The position with the relative depth of ``block``: where a tap on that block sits after expansion.

    ``scale * (block + 1) - 1`` for a whole scale, rounded up for others.
    """
    return -(-(block + 1) * length // depth) - 1


def build_layer_map(layer_map: str | Sequence[int], depth: int, scale: float = 2, period: int = 1) -> list[int]:
    """Build and check a layer map.

    Args:
        layer_map (str | Sequence[int]): 'cyclic', 'interleaved', 'middle_cycle', or the block of every position.
        depth (int): Number of blocks L.
        scale (float): Positions per block. An explicit list has its own length and ignores it. Defaults to 2.
        period (int): Length of the pattern that consecutive positions must keep; 2 for Swin, whose blocks alternate
            between plain and shifted windows. Named maps then move whole pairs. Defaults to 1.

    Returns:
        list[int]: The block of every position.

    Raises:
        ValueError: If the name is unknown, the list has a hole or a wrong entry, or the pattern would break.
    """
    if isinstance(layer_map, str):
        if layer_map not in LAYER_MAPS:
            raise ValueError(f'layer_map={layer_map!r} is unknown; allowed are {sorted(LAYER_MAPS)} or a list of block '
                             f'indices 0..{depth - 1}')
        length = num_positions(depth, scale)
        if depth % period or layer_map == 'cyclic':
            result = LAYER_MAPS[layer_map](depth, length)
        else:
            groups = LAYER_MAPS[layer_map](depth // period, length // period)
            result = [group * period + offset for group in groups for offset in range(period)]
            result += result[-period:][:length % period]  # a rest begins the last pair once more
    else:
        _check_scale(scale)
        result = list(layer_map)
    _check(result, depth, period)
    return result


def _check(layer_map: list[int], depth: int, period: int) -> None:
    for p, block in enumerate(layer_map):
        if isinstance(block, bool) or not isinstance(block, int) or not 0 <= block < depth:
            raise ValueError(f'layer_map[{p}]={block!r} is not a block; allowed are integers 0..{depth - 1}')
    unused = sorted(set(range(depth)) - set(layer_map))
    if unused:
        raise ValueError(f'layer_map={layer_map} has a hole: it never uses block(s) {unused} of 0..{depth - 1}; '
                         'every pretrained block has to run at least once')
    for p, block in enumerate(layer_map):
        if block % period != p % period:
            kinds = ('plain', 'shifted')
            raise ValueError(
                f'layer_map={layer_map} breaks the alternation of plain and shifted windows: position {p} needs a '
                f'{kinds[p % period]} block and block {block} is {kinds[block % period]}; even positions take even '
                'blocks, odd positions odd ones (the named maps keep whole pairs where the stage has an even depth)')
