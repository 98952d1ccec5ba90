"""What an expanded backbone can do beyond its parent."""
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import torch.nn as nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmscalenet.tables import align

from .binding import Bound
from .container import PositionList
from .depths import resolve, totals
from .families import window_shift
from .layer_map import block_at
from .position import Position
from .taps import move_taps

#: Names of what stands before the first block.
STEM = ('cls_token', 'dist_token', 'pos_embed', 'absolute_pos_embed', 'patch_embed', 'tokens_to_token')


def position_lists(backbone: nn.Module) -> dict[str, PositionList]:
    """The expanded lists of a backbone by their dotted names: 'layers', or 'stages.0.blocks' and on."""
    return dict(_lists_in(backbone))


def _lists_in(module: nn.Module, prefix: str = '') -> Iterator[tuple[str, PositionList]]:
    """Without a look into the blocks, where most modules are: layer-wise decay asks for every parameter."""
    for name, child in module.named_children():
        if isinstance(child, PositionList):
            yield f'{prefix}{name}', child
        else:
            yield from _lists_in(child, f'{prefix}{name}.')


def name_in_base(name: str, lists: dict[str, PositionList]) -> str:
    """A parameter's name; of what a position owns or a copy that of the base's block at the same relative depth."""
    for start, positions in lists.items():
        if name.startswith(f'{start}.') and (name.startswith(f'{start}.positions.') or not positions.share):
            number, *rest = name.removeprefix(f'{start}.').removeprefix('positions.').split('.')
            return '.'.join([start, str(block_at(int(number), positions.num_base, len(positions.layer_map))), *rest])
    return name


class Expanded(Bound):
    """Mixed into the class of a backbone that ``expand`` has expanded."""

    freeze: str | None = None
    #: The blocks whose outputs the backbone gives, where it counts blocks.
    tapped_blocks: list[int] | None = None
    #: The argument ``depth`` that the backbone was expanded with.
    chosen_depth: int | Sequence[int] | None = None

    def train(self, mode: bool = True) -> nn.Module:
        """As the parent's, but frozen parts stay in eval mode and the module is returned.

        Args:
            mode (bool): Training (True) or evaluation mode. Defaults to True.
        """
        super().train(mode)
        if position_lists(self):  # not yet while the parent is being built
            self.apply_freezing()
        return self

    @property
    def active_depth(self) -> list[int]:
        """Positions that run at present, of every list of blocks."""
        return [len(positions) for positions in position_lists(self).values()]

    def runnable_depths(self) -> list[int]:
        """The depths at which the net can run, from the base's to the full one; all lists of blocks together."""
        return list(totals(_runnable(self)))

    def set_depth(self, depth: int | Sequence[int]) -> None:
        """Run so many positions from now on; the others are passed over and cost nothing.

        The outputs are those of a net built with just these positions and the same weights, to the bit; taps sit at the
        same relative depth. Which of the added positions run first is fixed (:mod:`mmscalenet.expansion.depths`): with
        'cyclic', 'middle_cycle' and lists they come in order, with 'interleaved' those of the middle blocks come first.
        The state dict does not depend on the depth.

        Args:
            depth (int | Sequence[int]): Positions that run, from the base's depth to the full one. For a Swin of all
                stages together, which then grow at the same relative pace, or one number a stage, by whole pairs.

        Raises:
            ValueError: If the net cannot run at that depth; the message says at which it can.
        """
        lists = position_lists(self)
        for name, one_depth in resolve(_runnable(self), depth).items():
            lists[name].set_depth(one_depth)
        if self.tapped_blocks is not None:
            move_taps(self, self.tapped_blocks, lists)

    def init_weights(self) -> None:
        """The parent's initialisation of its own, then what positions own at its start; nothing where it has none."""
        if not hasattr(super(), 'init_weights'):  # mmengine asks every part of a model that has one
            return
        lists = position_lists(self).values()
        with ExitStack() as stack:
            # parents that scale the weights of one layer after the other would scale those of a block at every use, and
            # those that initialise every Linear take it to have a bias
            for positions in lists:
                stack.enter_context(positions.as_base())
            super().init_weights()
        for positions in lists:
            positions.reset_positions()

    def _freeze_stages(self) -> None:
        """The parent's, where it freezes stages. Blocks it would look for in the list of positions."""
        parent = getattr(super(), '_freeze_stages', None)
        if parent is not None and len(position_lists(self)) != 1:
            parent()

    def apply_freezing(self) -> None:
        """Freeze what ``freeze`` and the parent's ``frozen_stages`` ask for.

        ``frozen_stages`` of a plain transformer counts blocks. They are frozen wherever they run; what positions own
        is frozen with them only in the leading positions that run frozen blocks alone, as later ones need it. Parents
        freeze the stages of a Swin when they are told to train; here too before that, as an optimizer and
        DistributedDataParallel may be built earlier. Copies (``share=False``) are frozen with the block or stage that
        they are copies of, but not by ``freeze='base'``: they are what it trains.

        As with the parents nothing is thawed: set ``freeze`` to None or ``frozen_stages`` to -1, and then what is to
        train again to ``requires_grad_(True)``.
        """
        lists = position_lists(self)
        if self.freeze == 'base':
            _freeze_base(self)
        frozen = getattr(self, 'frozen_stages', -1)
        self._freeze_stages()
        if 'layers' not in lists or frozen <= 0:
            return
        layers = lists['layers']
        leading = True
        for position, block_index in zip(layers.positions, layers.layer_map, strict=True):
            leading = leading and block_index < frozen
            if leading:
                _freeze(position)
        for p, block_index in enumerate(layers.layer_map):
            if block_index < frozen:
                _freeze(layers.block_of(p))
        for stem in ('patch_embed', 'drop_after_pos'):  # a backbone of one's own may have others
            if hasattr(self, stem):
                getattr(self, stem).eval()

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Depth of a parameter for layer-wise learning-rate decay.

        A block has its own depth in the base, however often it runs. What a position owns, and where nothing is shared
        its copy, has the depth of the base's block at the same relative depth. Of ConvNeXt the parent's count is taken,
        which makes one depth of several blocks.

        Args:
            param_name (str): Name of the parameter.
            prefix (str): Prefix of the backbone's parameters in it. Defaults to ''.

        Returns:
            tuple[int, int]: Depth (0: stem, last: whatever follows the blocks) and the number of depths.
        """
        lists = position_lists(self)
        inside = param_name.startswith(prefix)
        name = name_in_base(param_name[len(prefix):], lists) if inside else ''
        if 'ConvNeXt' in {cls.__name__ for cls in type(self).__mro__}:
            return super().get_layer_depth(prefix + name if inside else param_name, prefix)
        total = sum(positions.num_base for positions in lists.values()) + 2
        if not inside:
            return total - 1, total
        if name.split('.')[0] in STEM:
            return 0, total
        if len(lists) > 1 and not any(name.startswith(f'{list_name}.') for list_name in lists):
            return _depth_between(self, name, lists, total - 1), total
        before = 0
        for list_name, positions in lists.items():
            if name.startswith(f'{list_name}.'):
                return before + int(name[len(list_name) + 1:].split('.')[0]) + 1, total
            before += positions.num_base
        return total - 1, total

    def switch_to_deploy(self) -> nn.Module:
        """Unroll the backbone for inference and export: the same outputs from blocks that share nothing.

        Every position that runs at the present depth gets a block of its own, into whose weights its adapter, gate and
        norms are folded as far as they can be (see :func:`~mmscalenet.expansion.deploy.fold`); the others are dropped.
        That takes the memory of a net of that depth, whose weights no longer fit the config: keep the trained
        checkpoint. ``torch.jit.trace``, and ONNX exporters that build on it, fix the sizes of batch and image where
        there are windows (``tools/deployment/export_onnx.py`` says so).

        Returns:
            nn.Module: The backbone itself, changed in place.
        """
        for positions in position_lists(self).values():
            positions.switch_to_deploy()
        return self

    def layer_table(self) -> str:
        """See :func:`~mmscalenet.expansion.layer_table`."""
        return layer_table(self)


def _runnable(backbone: nn.Module) -> dict[str, list[int]]:
    return {name: list(positions.runnable) for name, positions in position_lists(backbone).items()}


def _depth_between(backbone: nn.Module, name: str, lists: dict[str, PositionList], last: int) -> int:
    """Depth of what stands between stages: that of the block before it; of norms, which are at outputs, the last."""
    number = re.search(r'\d+', name)
    if number is None or re.match(r'norm|layers\.\d+\.2\.', name):  # the latter in MiT and PVT
        return last
    # Swin's ``stages.0.downsample`` follows the blocks of its stage; that of mmpretrain's Swin V2 precedes them
    after = name.startswith('stages') and getattr(backbone.stages[0], 'downsample', None) is not None
    starts = [int(re.search(r'\d+', list_name)[0]) for list_name in lists]
    return sum(positions.num_base for start, positions in zip(starts, lists.values(), strict=True)
               if start < int(number[0]) + after)


def _freeze_base(backbone: nn.Module) -> None:
    """All but what positions own; batch norms, whose statistics move without a gradient, stay in eval mode."""
    own = {part for positions in position_lists(backbone).values() for module in positions.own_modules()
           for part in module.modules()}
    for module in backbone.modules():
        if module in own:
            continue
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(False)
        if isinstance(module, _BatchNorm):
            module.eval()


def _freeze(module: nn.Module) -> None:
    module.eval()
    module.requires_grad_(False)


def layer_table(backbone: nn.Module) -> str:
    """A printable table of the layer map of an expanded backbone, one line a position.

    Columns: list, position, block, whether the position was added, the depth (of its list) from which on it runs, shift
    of its window in tokens, parameters and settings of its adapter, start value of its gate, whether the core's input
    is added to its own, drop-path rate.
    """
    rows = [('list', 'position', 'block', 'added', 'from depth', 'shift', 'adapter', 'gate', 'core input', 'drop path')]
    for name, positions in position_lists(backbone).items():
        for p, (position, block, added) in enumerate(
                zip(positions.positions, positions.layer_map, positions.added, strict=True)):
            shift = window_shift(positions.block_of(p))
            rows.append((
                name, str(p), str(block) if positions.share else f'copy of {block}' if added else str(block),
                'yes' if added else '-',
                str(next(depth for depth, running in positions.runnable.items() if p in running)) if added else '-',
                '-' if shift is None else str(shift), _adapter_cell(position), _gate_cell(position, block, positions),
                '-' if position.inject is None else 'added', f'{position.drop_path.drop_prob:.3f}'))
    return align(rows)


def _adapter_cell(position: Position) -> str:
    adapter = position.adapter
    if adapter is None:
        return '-'
    size = sum(w.numel() for w in adapter.parameters())
    return ' '.join([type(adapter).__name__, f'{size:,}', adapter.extra_repr()]).rstrip()


def _gate_cell(position: Position, block: int, positions: PositionList) -> str:
    if position.gate is None:
        return '-'
    return f'1/{positions.layer_map.count(block)}' if position.divide else f'{position.gate_init:g}'
