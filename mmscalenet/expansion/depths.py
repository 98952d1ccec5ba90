"""Which added positions run at a depth between the base's and the full one. Pure functions, no torch.

The order is fixed by the layer map, and a larger depth runs all that a smaller one runs:

- 'cyclic', 'middle_cycle' and lists: in order of position, so that the net is the same map at a smaller scale::

      cyclic, 4 blocks    0 1 2 3 0 1 2 3         middle_cycle, core (1, 2)    0 1 2 1 2 3
      depth 4             0 1 2 3 - - - -         depth 4                      0 1 2 - - 3
      depth 6             0 1 2 3 0 1 - -         depth 5                      0 1 2 1 - 3

- 'interleaved': second uses before third ones, those of the middle blocks first and from there outwards, as the middle
  of a net gains most from running twice::

      interleaved         0 0 1 1 2 2 3 3
      depth 6             0 - 1 1 2 2 3 -

Where windows alternate (Swin) whole pairs come and go. Over several stages, pairs come in at the same relative pace.
"""
from collections.abc import Mapping, Sequence

from .layer_map import added_positions, keeps_alternation


def activation_order(layer_map: Sequence[int], name: object = None, period: int = 1) -> list[list[int]]:
    """The added positions in the order in which a growing depth takes them in, in groups that run together.

    Args:
        layer_map (Sequence[int]): The block of every position.
        name (object): What the user gave as the map: its name, or a list. Defaults to None: a list.
        period (int): Most positions of a group: 2 for Swin, whose windows alternate. Defaults to 1.
    """
    groups: list[list[int]] = []
    for p, is_added in enumerate(added_positions(layer_map)):
        if is_added and groups and len(groups[-1]) < period and groups[-1][-1] == p - 1:
            groups[-1].append(p)
        elif is_added:
            groups.append([p])
    if name != 'interleaved':
        return groups
    middle = max(layer_map) / 2

    def rank(group: list[int]) -> tuple[int, float]:
        first = group[0]
        blocks = [layer_map[p] for p in group]
        return list(layer_map[:first]).count(layer_map[first]), abs(sum(blocks) / len(blocks) - middle)

    return sorted(groups, key=rank)


def runnable_depths(layer_map: Sequence[int], order: Sequence[Sequence[int]], period: int = 1) -> dict[int, list[int]]:
    """Depth -> the positions that run, from the base's depth to the full one, those left out where the windows would
    not alternate."""
    added = {p for group in order for p in group}
    running = [p for p in range(len(layer_map)) if p not in added]
    result = {}
    for group in [(), *order]:
        running = sorted([*running, *group])
        if keeps_alternation([layer_map[p] for p in running], period):
            result[len(running)] = running
    return result


def totals(depths: Mapping[str, Sequence[int]]) -> dict[int, dict[str, int]]:
    """Depth of the whole net -> the depth of every list of blocks, from the base's to the full one.

    With several lists (stages of a Swin) all take in their positions at the same relative pace; where two are level,
    the longer list is first.

    Args:
        depths (Mapping[str, Sequence[int]]): The depths at which every list can run, ascending.
    """
    steps = sorted(((i / (len(known) - 1), -known[-1], name, known[i]) for name, known in depths.items()
                    for i in range(1, len(known))), key=lambda step: step[:2])
    current = {name: known[0] for name, known in depths.items()}
    result = {sum(current.values()): current}
    for *_, name, depth in steps:
        current = {**current, name: depth}
        result[sum(current.values())] = current
    return result


def resolve(depths: Mapping[str, Sequence[int]], depth: int | Sequence[int]) -> dict[str, int]:
    """The depth of every list of blocks.

    Args:
        depths (Mapping[str, Sequence[int]]): The depths at which every list can run, ascending.
        depth (int | Sequence[int]): Positions of the whole net, or of every list.

    Raises:
        ValueError: If the net cannot run at that depth; the message names those at which it can.
    """
    if isinstance(depth, (list, tuple)):
        if len(depth) != len(depths):
            raise ValueError(f'depth={depth!r} has {len(depth)} numbers; allowed are one number, or {len(depths)}: one '
                             f'for every list of blocks ({", ".join(depths)})')
        for (name, known), value in zip(depths.items(), depth, strict=True):
            if type(value) is not int or value not in known:
                raise ValueError(f'depth={depth!r}: {value!r} is not allowed for {name}; allowed there are '
                                 f'{_range(known)}')
        return dict(zip(depths, depth, strict=True))
    known = totals(depths)
    if type(depth) is not int or depth not in known:
        raise ValueError(f"depth={depth!r} is not allowed; allowed are {_range(list(known))}, from the base's depth to "
                         'the full one')
    return known[depth]


def _range(depths: Sequence[int]) -> str:
    """``12 to 24`` where all between are allowed, else the numbers."""
    if len(depths) > 2 and list(depths) == list(range(depths[0], depths[-1] + 1)):
        return f'{depths[0]} to {depths[-1]}'
    return ', '.join(map(str, depths))
