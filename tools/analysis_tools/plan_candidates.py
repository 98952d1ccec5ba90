"""The expansions that plan_expansion.py considers, as options of a ScaleNet backbone. Pure functions, no torch."""
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from mmscalenet.engine.grown_config import as_written
from mmscalenet.expansion import build_layer_map

#: Widths of the parallel adapter over the channels; None: no adapter.
RATIOS = (None, Fraction(5, 24), Fraction(5, 12), Fraction(5, 6))


@dataclass(frozen=True)
class Blocks:
    """One list of blocks of the base: a plain transformer has one, a Swin one for every stage.

    Attributes:
        depth (int): Number of blocks.
        period (int): 2 where plain and shifted windows alternate, so that whole pairs are added; else 1.
    """
    depth: int
    period: int


@dataclass(frozen=True)
class Candidate:
    """One expansion.

    Attributes:
        options (tuple[tuple[str, object], ...]): Arguments of the backbone, in the order in which they are shown.
        ratio (Fraction, optional): Width of the adapter over the channels.
    """
    options: tuple[tuple[str, object], ...]
    ratio: Fraction | None

    @property
    def text(self) -> str:
        """The options as they are written in a config."""
        return ', '.join(f'{name}={as_written(value)}' for name, value in self.options)

    @property
    def map_name(self) -> str:
        """The name of the map, or the core that goes with 'middle_cycle'."""
        options = dict(self.options)
        return f'core {options["core"]}' if options.get('core') else options['layer_map']

    def arguments(self) -> dict[str, object]:
        """The options as a config holds them."""
        return {name: _plain(value) for name, value in self.options}


def candidates(lists: Sequence[Blocks], max_scale: float, leading: dict[str, object] = {},
               adapter: dict[str, object] = {}, reset: Sequence[str] = ()) -> Iterator[Candidate]:
    """All expansions, without those that are the same net as one before.

    Scales are halves and thirds that add whole blocks (pairs in Swin): of the whole net and, with several stages, of
    the deepest one alone. Maps are all named ones and, where one list of blocks grows, 'middle_cycle' with its middle
    third or middle half as the core, run again as a whole.

    Args:
        lists (Sequence[Blocks]): The lists of blocks of the base.
        max_scale (float): The largest scale.
        leading (dict[str, object]): Options that all expansions begin with. Defaults to none.
        adapter (dict[str, object]): Further settings of the parallel adapters. Defaults to none.
        reset (Sequence[str]): Options that the config sets and that are to be None. Defaults to ().
    """
    seen = set()
    for scales in _scales(lists, max_scale):
        for layer_map, cores in _maps(lists, scales):
            maps = _layer_maps(lists, scales, layer_map, cores)
            if maps is None or maps in seen:
                continue
            seen.add(maps)
            options = {**leading, 'scale': scales[0] if len(set(scales)) == 1 else list(scales), 'layer_map': layer_map}
            if any(cores):
                options['core'] = cores[0] if len(cores) == 1 else list(cores)
            options |= {name: None for name in reset if name not in options}
            for ratio in RATIOS:
                own = None if ratio is None else {'type': 'ParallelAdapter', 'ratio': ratio, **adapter}
                yield Candidate((*options.items(), ('adapter', own)), ratio)


def _scales(lists: Sequence[Blocks], max_scale: float) -> Iterator[tuple[Fraction, ...]]:
    """One scale for every list, ascending."""
    steps = sorted({Fraction(number, parts) for parts in (1, 2, 3)
                    for number in range(parts, int(max_scale * parts) + 1)})
    deepest = max(range(len(lists)), key=lambda i: lists[i].depth)
    for step in steps:
        if all(_adds_whole(blocks, step) for blocks in lists):
            yield (step, ) * len(lists)
        if len(lists) > 1 and step > 1 and _adds_whole(lists[deepest], step):
            yield tuple(step if i == deepest else Fraction(1) for i in range(len(lists)))


def _adds_whole(blocks: Blocks, scale: Fraction) -> bool:
    return ((scale - 1) * blocks.depth / blocks.period).denominator == 1


def _maps(lists: Sequence[Blocks], scales: Sequence[Fraction]) -> Iterator[tuple[str, list[tuple[int, int] | None]]]:
    """Names of maps, with the core of every list."""
    nothing = [None] * len(lists)
    for name in ('cyclic', 'interleaved', 'middle_cycle'):
        yield name, nothing
    grown = [i for i, scale in enumerate(scales) if scale > 1]
    if len(grown) != 1:
        return
    blocks = lists[grown[0]]
    for parts in (3, 2):
        core = middle(blocks, parts)
        added = (scales[grown[0]] - 1) * blocks.depth
        if core is not None and added % (core[1] - core[0] + 1) == 0:
            yield 'middle_cycle', [core if i == grown[0] else None for i in range(len(lists))]


def middle(blocks: Blocks, parts: int) -> tuple[int, int] | None:
    """First and last block of the middle 1/``parts`` of a list, in whole pairs and with as many before as after it, so
    rather smaller; None if nothing is left."""
    groups = blocks.depth // blocks.period
    size = round(groups / parts)
    size -= (groups - size) % 2
    first = (groups - size) // 2 * blocks.period
    return (first, first + size * blocks.period - 1) if size > 0 and blocks.depth % blocks.period == 0 else None


def _layer_maps(lists: Sequence[Blocks], scales: Sequence[Fraction], layer_map: str,
                cores: Sequence[tuple[int, int] | None]) -> tuple[tuple[int, ...], ...] | None:
    """The block of every position, of every list; None where a map does not fit."""
    try:
        return tuple(tuple(build_layer_map(layer_map, blocks.depth, float(scale), blocks.period, core))
                     for blocks, scale, core in zip(lists, scales, cores, strict=True))
    except ValueError:  # e.g. an odd number of Swin's blocks, whose windows then do not alternate
        return None


def _plain(value: object) -> object:
    """The same with numbers in the place of fractions."""
    if isinstance(value, Fraction):
        return int(value) if value.denominator == 1 else float(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value
