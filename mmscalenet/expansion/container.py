"""The list that holds the blocks once and, when iterated, yields the positions that run them."""
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
import torch.nn as nn
from mmengine.model import BaseModule, ModuleList

from .calls import WithGrid
from .core import with_core_input
from .deploy import fold
from .depths import runnable_depths
from .layer_map import added_positions
from .position import Position


class PositionList(BaseModule):
    """Stands in the place of a parent's list of blocks; the parent's ``for layer in self.layers`` needs no change.

    ::

        registered    0  1  2            positions.0 ... positions.5     (blocks: the parent's names; positions: own)
        iterated      positions.0 ... positions.5, which run      0  1  2  0  1  2
        at depth 4    positions.0 ... positions.3: what does not run is not yielded, nor counted by len()

    Nothing is aliased: a block is registered once, whatever number of positions run it, and these look it up here.

    Args:
        blocks (Sequence[nn.Module]): The blocks to register.
        layer_map (Sequence[int]): Position -> block **of the base**.
        positions (Sequence[Position]): What each position owns.
        share (bool): Whether positions share blocks. If not, ``blocks`` has one for every position.
        order (Sequence[Sequence[int]]): The added positions as a growing depth takes them in, see
            :func:`~mmscalenet.expansion.depths.activation_order`.
        period (int): 2 where plain and shifted windows alternate. Defaults to 1.
        core_entry (int, optional): The position whose input is added again. Defaults to None: no position has a factor
            for it.
    """

    def __init__(self, blocks: Sequence[nn.Module], layer_map: Sequence[int], positions: Sequence[Position],
                 share: bool, order: Sequence[Sequence[int]], period: int = 1, core_entry: int | None = None) -> None:
        super().__init__()
        self.layer_map = list(layer_map)
        self.share = share
        self.core_entry = core_entry
        #: Whether all weights came from a file, and are none of this net's own start.
        self.loaded = False
        #: Depth -> the positions that run at it, from the base's depth to the full one.
        self.runnable = runnable_depths(self.layer_map, order, period)
        for i, block in enumerate(blocks):
            self.add_module(str(i), block)
        self._take(positions)
        # In the file, as weights trained with one map mean nothing under another. Where every block runs once, the file
        # is one of the base, and any map may grow from it.
        if share and self.layer_map != list(range(len(blocks))):
            self.positions.register_buffer('layer_map', torch.tensor(self.layer_map))
        self.set_depth(len(self.layer_map))

    def _take(self, positions: Iterable[Position]) -> None:
        self.positions = ModuleList(positions)
        for p, position in enumerate(self.positions):
            position.place = (self, str(self.layer_map[p] if self.share else p))

    def set_depth(self, depth: int) -> None:
        """Run so many positions from now on, one of the keys of ``runnable``."""
        self.running = self.runnable[depth]
        uses = Counter(self.layer_map[p] for p in self.running)
        positions = [module for module in self.positions.modules() if isinstance(module, Position)]  # maybe wrapped
        for position, block in zip(positions, self.layer_map, strict=True):
            position.uses = uses[block]

    @property
    def num_base(self) -> int:
        """Blocks of the base."""
        return max(self.layer_map) + 1

    @property
    def num_blocks(self) -> int:
        """Registered blocks: those of the base, or one for every position if nothing is shared."""
        return self.num_base if self.share else len(self.layer_map)

    @property
    def blocks(self) -> list[nn.Module]:
        return [self.get_submodule(str(i)) for i in range(self.num_blocks)]

    @property
    def added(self) -> list[bool]:
        """For every position whether it was added to the base."""
        return added_positions(self.layer_map)

    def own_modules(self) -> list[nn.Module]:
        """What is not the base's: what positions own and, where nothing is shared, the blocks that were added."""
        copies = [] if self.share else [self.block_of(p) for p, is_added in enumerate(self.added) if is_added]
        return [self.positions, *copies]

    def block_of(self, position: int) -> nn.Module:
        return self.get_submodule(str(self.layer_map[position] if self.share else position))

    def __len__(self) -> int:
        return len(self.running)

    def __iter__(self) -> Iterator[Callable]:
        calls = [position if getattr(position, 'around_attention', None) is None else WithGrid(position)
                 for position in self[:]]  # one in a wrapper may not show what it has
        if self.core_entry is None or len(self) == self.num_base:  # where nothing runs again, nothing is added
            return iter(calls)
        return with_core_input(calls, self.core_entry)

    def __getitem__(self, index: int | slice) -> Position | list[Position]:
        """Of the positions that run; without the core's input."""
        if isinstance(index, slice):
            return [self.positions[p] for p in self.running[index]]
        return self.positions[self.running[index]]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """One position after another, where the parent calls its blocks as one nn.Sequential."""
        for position in self:
            x = position(x)
        return x

    def _load_from_state_dict(self, state_dict: dict, prefix: str, local_metadata: dict, strict: bool,
                              missing_keys: list, unexpected_keys: list, error_msgs: list) -> None:
        given = state_dict.get(f'{prefix}positions.layer_map')
        if given is not None and given.tolist() != self.layer_map:
            # not into error_msgs: mmengine's runners load without strict, and would go on after a warning
            raise RuntimeError(f'{prefix}positions: the checkpoint was trained with layer_map={given.tolist()}, the '
                               f'model has layer_map={self.layer_map}; give the model the layer_map of the checkpoint')
        # not by a state dict, for which processes of FSDP would have to talk; torch's wrapper hides its name there
        names = (name.replace('_checkpoint_wrapped_module.', '') for name, _ in self.named_parameters())
        self.loaded = all(f'{prefix}{name}' in state_dict for name in names)
        if not hasattr(self.positions, 'layer_map'):  # the first files say it where each block runs once, too
            state_dict.pop(f'{prefix}positions.layer_map', None)
        self._add_norms(state_dict, prefix)
        self._add_copies(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys,
                                      error_msgs)

    def _add_norms(self, state_dict: dict, prefix: str) -> None:
        """Positions start with the blocks' norms where base weights come by name, as from a classifier's file."""
        for p, position in enumerate(self.positions):
            for own, name in position.saved_norms.items():
                shared = f'{prefix}{self.layer_map[p]}.{name}.'  # own norms go with sharing alone
                for key in [key for key in state_dict if key.startswith(shared)]:
                    state_dict.setdefault(f'{prefix}positions.{p}.{own}.{key.removeprefix(shared)}',
                                          state_dict[key].clone())  # apart, also where tensors are taken as they are

    def _add_copies(self, state_dict: dict, prefix: str) -> None:
        """The same for the copies of blocks, where nothing is shared."""
        numbers = {key.removeprefix(prefix).split('.')[0] for key in state_dict if key.startswith(prefix)}
        if not self.share and numbers == set(map(str, range(self.num_base))):
            state_dict.update({key: value.clone() for key, value in self.lay_out(state_dict, prefix).items()})

    def lay_out(self, state: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
        """The tensors of the base's blocks in ``state`` under the names of the block of every position."""
        return {f'{prefix}{p}.{name.removeprefix(start)}': value for p, block in enumerate(self.layer_map)
                for start in [f'{prefix}{block}.'] for name, value in state.items() if name.startswith(start)}

    def sync_norms(self) -> None:
        """Copy the blocks' norms into the norms that positions own; called when base weights have been loaded."""
        for own, source in self._norms_and_sources():
            own.load_state_dict(source.state_dict())

    @contextmanager
    def as_base(self) -> Iterator[None]:
        """Within, one position of every registered block is yielded, in the order of the blocks, and no module is found
        that positions own."""
        running, modules = self.running, self._modules
        self.running = [self.layer_map.index(i) if self.share else i for i in range(self.num_blocks)]
        self._modules = {name: module for name, module in modules.items() if name != 'positions'}
        self.__dict__['positions'] = modules['positions']
        try:
            yield
        finally:
            del self.__dict__['positions']
            self.running, self._modules = running, modules

    def reset_positions(self) -> None:
        """Put everything that positions own at the start of training: the net computes what its blocks compute."""
        for position in self.positions:
            position.reset_parameters()
        self.sync_norms()

    def start_added(self, ran_at: int | None = None) -> list[tuple[nn.Module, nn.Module]]:
        """Give the norms and copies of blocks that added positions own the weights that their blocks have by now.

        Args:
            ran_at (int, optional): A depth; what runs at it has been trained and is left alone, and all is at one at
                which the net cannot run. Defaults to None: nothing has been trained.

        Returns:
            list[tuple[nn.Module, nn.Module]]: What was started, and from what.
        """
        every = range(len(self.layer_map))
        started = list(self._added_and_sources(() if ran_at is None else self.runnable.get(ran_at, every)))
        for own, source in started:
            own.load_state_dict(source.state_dict())
        return started

    def owns_beyond(self, ran_at: int) -> bool:
        """Whether a position that runs, and did not at that depth, has norms or a copy of a block of its own."""
        idle = {*range(len(self.layer_map))} - {*self.running}
        return any(self._added_and_sources({*self.runnable.get(ran_at, self.running)} | idle))

    def added_differ(self) -> bool:
        """Whether the norms and copies of blocks that added positions own differ from what they start from."""
        return any(not torch.equal(value, source.state_dict()[name]) for own, source in self._added_and_sources()
                   for name, value in own.state_dict().items())

    def _added_and_sources(self, but: Container[int] = ()) -> Iterator[tuple[nn.Module, nn.Module]]:
        yield from self._norms_and_sources(but)
        for p, is_added in enumerate(self.added):
            if is_added and not self.share and p not in but:
                yield self.block_of(p), self.block_of(self.layer_map.index(self.layer_map[p]))

    def _norms_and_sources(self, but: Container[int] = ()) -> Iterator[tuple[nn.Module, nn.Module]]:
        for p, position in enumerate(self.positions):
            for name, own in position.own_norms().items() if p not in but else ():
                yield own, self.block_of(p).get_submodule(name)

    def switch_to_deploy(self) -> None:
        """Give every position that runs a block of its own and fold what it owns into that block's weights."""
        blocks = [fold(self.positions[p], self.block_of(p)) for p in self.running]
        for i in range(self.num_blocks):
            delattr(self, str(i))
        for i, block in enumerate(blocks):
            self.add_module(str(i), block)
        self.layer_map = [self.layer_map[p] for p in self.running]
        self.share = False
        self._take(self[:])
        self.running = list(range(len(blocks)))
        self.runnable = {len(blocks): self.running}
