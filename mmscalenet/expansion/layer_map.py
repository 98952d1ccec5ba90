"""Layer maps: which block runs at each position. Pure functions, no torch.

A named map takes the number of blocks (or, for Swin, of plain-and-shifted pairs) and the number of positions, and gives
a list with the block of every position. Which of the added positions run at a smaller depth: ``depths.py``.
"""
from collections.abc import Callable, Sequence


def cyclic(depth: int, length: int) -> list[int]:
    """The blocks in order, again and again: ``0 1 2 0 1 2``. ScaleNet's mapping, arXiv 2510.18431."""
    return [p % depth for p in range(length)]


def interleaved(depth: int, length: int) -> list[int]:
    """Every copy beside its source: ``0 0 1 1 2 2``; better than stacking for converged models in "orthogonal growth"
    of unshared language-model layers."""
    return [p * depth // length for p in range(length)]


def middle_cycle(depth: int, length: int, core: tuple[int, int] | None = None) -> list[int]:
    """The blocks before and after the core once, those of the core in a cycle: ``0 1 2 1 2 3``; after
    Mixture-of-Recursions, arXiv 2507.10524. ``core`` is its first and last block; by default all but the first and the
    last of the net."""
    first, last = core or default_core(depth)
    size, after = last - first + 1, depth - 1 - last
    return [*range(first), *(first + p % size for p in range(length - first - after)), *range(last + 1, depth)]


LAYER_MAPS: dict[str, Callable[[int, int], list[int]]] = {f.__name__: f for f in (cyclic, interleaved, middle_cycle)}


def default_core(depth: int, period: int = 1) -> tuple[int, int]:
    """First and last block of the part that ``middle_cycle`` runs again if none is given: all but the first and the
    last, or of whole pairs of blocks all but the first and the last pair."""
    if depth % period:
        return default_core(depth)
    count = depth // period
    first, last = (1, count - 2) if count > 2 else (0, count - 1)
    return first * period, (last + 1) * period - 1


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


def block_at(position: int, depth: int, length: int) -> int:
    """The block whose relative depth is that of ``position``."""
    return next(block for block in range(depth) if position_of_block(block, depth, length) >= position)


def build_layer_map(layer_map: str | Sequence[int], depth: int, scale: float = 2, period: int = 1,
                    core: Sequence[int] | None = None) -> list[int]:
    """Build and check a layer map.

    Args:
        layer_map (str | Sequence[int]): 'cyclic', 'interleaved', 'middle_cycle', or the block of every position.
        depth (int): Number of blocks L.
        scale (float): Positions per block. An explicit list has its own length and ignores it. Defaults to 2.
        period (int): Length of the pattern that consecutive positions must keep; 2 for Swin, whose blocks alternate
            between plain and shifted windows. Named maps then move whole pairs. Defaults to 1.
        core (Sequence[int], optional): First and last block of the part that 'middle_cycle' runs again. Defaults to
            None: all but the first and the last block (or pair).

    Returns:
        list[int]: The block of every position.

    Raises:
        ValueError: If the name is unknown, the list has a hole or a wrong entry, or the pattern would break.
    """
    if core is not None:
        _check_core(core, layer_map, depth, period)
    if isinstance(layer_map, str):
        if layer_map not in LAYER_MAPS:
            raise ValueError(f'layer_map={layer_map!r} is unknown; allowed are {sorted(LAYER_MAPS)} or a list of block '
                             f'indices 0..{depth - 1}')
        length = num_positions(depth, scale)
        if core is not None and (length - depth) % period:
            raise ValueError(f'scale={scale!r} adds {length - depth} positions to {depth} blocks; with core={core!r} '
                             'whole pairs of plain and shifted windows are added')
        if core is not None:
            result = middle_cycle(depth, length, tuple(core))
        elif depth % period or layer_map == 'cyclic':
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


def _check_core(core: object, layer_map: object, depth: int, period: int) -> None:
    if layer_map != 'middle_cycle':
        raise ValueError(f"core={core!r} goes with layer_map='middle_cycle', and it is {layer_map!r}; a list says by "
                         'itself what runs again')
    if not (isinstance(core, (list, tuple)) and len(core) == 2 and all(type(block) is int for block in core)
            and 0 <= core[0] <= core[1] < depth):
        raise ValueError(f'core={core!r} is not allowed; give the first and the last block of the part that runs '
                         f'again, from 0 to {depth - 1}')
    if core[0] % period or (core[1] + 1) % period:
        raise ValueError(f'core={core!r} cuts a pair of plain and shifted windows; let it begin at an even block and '
                         'end at an odd one')


def keeps_alternation(layer_map: Sequence[int], period: int) -> bool:
    """Whether blocks of plain and of shifted windows alternate as in the base."""
    return all(block % period == p % period for p, block in enumerate(layer_map))


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
