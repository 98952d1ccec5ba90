import logging
from collections.abc import Sequence

import torch
import torch.nn as nn
from mmengine.logging import print_log
from torch import Tensor

from mmscalenet.expansion import position_lists
from mmscalenet.expansion.blocks import Split
from mmscalenet.registry import MODELS

from ..layers import WindowedTokens, note_grid
from .scalenet import ScaleNet

#: Parents that put position embeddings on all their tokens, and register tokens between them and the patches after it.
_WITH_REGISTERS = ('mmpretrain.models.backbones.vision_transformer.VisionTransformer',
                   'mmpretrain.models.backbones.deit.DistilledVisionTransformer')


@MODELS.register_module()
class ScaleNetDeiT(ScaleNet):
    """DeiT or ViT grown in depth by sharing its layers: ScaleNet, arXiv 2510.18431.

    Args:
        base (str, optional): The backbone to build on, e.g. 'mmpretrain.DistilledVisionTransformer'. Defaults to None:
            the VisionTransformer of the library whose config it is, or the one that takes all given arguments
            (mmpretrain's takes ``arch``, mmseg's takes ``embed_dims``).
        window_size (int): Side in tokens of the windows in which positions attend, for large images (ViTDet, arXiv
            2203.16527; needs ``with_cls_token=False``). Defaults to 0: every position attends to the whole image.
        global_positions (int | Sequence[int]): The positions that attend to the whole image all the same: how many, at
            equal distances with the last among them, or which. Defaults to 4, as in ViTDet. To grow a trained
            windowed net with ``gate=0`` name all uses of its global blocks (a warning says which they are).
        num_register_tokens (int): Tokens that attend and are attended to like the others and are in no output (arXiv
            2309.16588), as DINOv2 "with registers" has 4. For mmpretrain's VisionTransformer and
            DistilledVisionTransformer, without ``window_size``. Defaults to 0.
        **kwargs: Options of :func:`mmscalenet.expand` (``scale``, ``layer_map``, ``core``, ``depth``, ``adapter``,
            ``share``, ``gate``, ``inject``, ``unshare``, ``freeze``, ``with_cp``), and the parent's own arguments,
            which keep their meaning. ``out_indices`` counts blocks, from the end if negative.
            ``init_cfg=dict(type='Pretrained', checkpoint=...)`` takes any of the formats of
            :func:`mmscalenet.checkpoints.load_pretrained`.

    Inputs (B, 3, H, W) of any size, outputs as the parent's: with mmpretrain and ``out_type='cls_token'`` a tuple of
    (B, C), with 'featmap' or mmseg a tuple of (B, C, H / patch, W / patch), one for every entry of ``out_indices``.

    Raises:
        TypeError: If an argument is neither an option nor the parent's.
        ValueError: If a value is not allowed; the message says what is.

    Example:
        >>> backbone = ScaleNetDeiT(arch='deit-tiny', scale=2)
        >>> print(backbone.layer_table())
    """

    parents = {'mmpretrain': 'VisionTransformer', 'mmseg': 'VisionTransformer'}

    _other_windows = ''

    def __init__(self, *, window_size: int = 0, global_positions: int | Sequence[int] = 4, num_register_tokens: int = 0,
                 **kwargs) -> None:
        if isinstance(num_register_tokens, bool) or not isinstance(num_register_tokens, int) or num_register_tokens < 0:
            raise ValueError(f'num_register_tokens={num_register_tokens!r} is not allowed; give a number from 0 on')
        if num_register_tokens and window_size:
            raise ValueError(f'window_size={window_size!r} needs num_register_tokens=0, not {num_register_tokens}: a '
                             'register token is in no window')
        self.num_register_tokens = num_register_tokens
        super().__init__(**kwargs)
        if isinstance(window_size, bool) or not isinstance(window_size, int) or window_size < 0:
            raise ValueError(f'window_size={window_size!r} is not allowed; give 0 (no windows) or tokens a side')
        if window_size:
            self._use_windows(window_size, global_positions)
        elif global_positions != 4:  # the default may be more than there are
            _spread(global_positions, len(position_lists(self)['layers'].layer_map))

    @classmethod
    def own_arguments(cls) -> tuple[str, ...]:
        return ('window_size', 'global_positions', 'num_register_tokens')

    def before_expansion(self) -> None:
        if not self.num_register_tokens:
            return
        parent = self._parts[1]
        if f'{parent.__module__}.{parent.__qualname__}' not in _WITH_REGISTERS:
            raise ValueError(f'num_register_tokens={self.num_register_tokens} is not allowed with '
                             f"{parent.__module__.split('.')[0]}.{parent.__name__}; give base='mmpretrain."
                             "VisionTransformer' (or 'mmpretrain.DistilledVisionTransformer') and its arguments")
        tokens = torch.empty(1, self.num_register_tokens, self.embed_dims)
        self.register_tokens = nn.Parameter(nn.init.normal_(tokens, std=1e-6), requires_grad=self.frozen_stages <= 0)
        self.drop_after_pos.register_forward_hook(self._insert_registers)

    def _insert_registers(self, module: nn.Module, inputs: tuple, x: Tensor) -> Tensor:
        """Tokens with their position embeddings, (B, tokens + H * W, C), get the registers, which have none."""
        registers = self.register_tokens.expand(len(x), -1, -1)
        return torch.cat((x[:, :self.num_extra_tokens], registers, x[:, self.num_extra_tokens:]), dim=1)

    def _format_output(self, x: Tensor, hw: tuple[int, int]) -> Tensor | tuple[Tensor, ...]:
        """The parent's, of the other tokens."""
        if self.num_register_tokens:
            patches = self.num_extra_tokens + self.num_register_tokens
            x = torch.cat((x[:, :self.num_extra_tokens], x[:, patches:]), dim=1)
        return super()._format_output(x, hw)

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """See :meth:`mmscalenet.Expanded.get_layer_depth`. Register tokens are of the stem, as the class token."""
        return super().get_layer_depth(f'{prefix}cls_token' if param_name == f'{prefix}register_tokens' else param_name,
                                       prefix)

    def _use_windows(self, size: int, global_positions: int | Sequence[int]) -> None:
        if getattr(self, 'with_cls_token', getattr(self, 'cls_token', None) is not None):
            raise ValueError(f'window_size={size} needs with_cls_token=False: a class token is in no window')
        layers = position_lists(self)['layers']
        if not all(isinstance(position.kind, Split) for position in layers.positions):
            parent = self._parts[1]
            raise ValueError(f"window_size={size} is not possible with base='{parent.__module__.split('.')[0]}."
                             f"{parent.__name__}', whose blocks run by themselves; allowed there is window_size=0")
        whole = _spread(global_positions, len(layers.layer_map))
        self._other_windows = _other_windows(global_positions, layers.layer_map, whole)
        if any(position.gate_init == 0 for position in layers.positions):
            self._warn_of_other_windows('gate=0')
        for p, position in enumerate(layers.positions):
            if p not in whole:
                position.around_attention = WindowedTokens(size)
        # the parent's loop over positions does not say how many rows the tokens have
        self.patch_embed.register_forward_hook(note_grid)
        self.set_depth(self.active_depth)  # says what is to be said of windows

    def set_depth(self, depth: int | Sequence[int]) -> None:
        """See :meth:`mmscalenet.Expanded.set_depth`. Windows go with the positions."""
        super().set_depth(depth)
        layers = position_lists(self)['layers']
        if len(layers) < len(layers.layer_map):
            self._warn_of_other_windows(f'depth {len(layers)}')

    def _warn_of_other_windows(self, where: str) -> None:
        if self._other_windows:
            print_log(f'{where}: {self._other_windows}', logger='current', level=logging.WARNING)
            self._other_windows = ''  # once


def _spread(global_positions: int | Sequence[int], length: int) -> set[int]:
    """The positions that attend to the whole image."""
    if isinstance(global_positions, int) and not isinstance(global_positions, bool) and 0 <= global_positions <= length:
        return {(i + 1) * length // global_positions - 1 for i in range(global_positions)}
    if isinstance(global_positions, Sequence) and set(global_positions) <= set(range(length)):
        return set(global_positions)
    raise ValueError(f'global_positions={global_positions!r} is not allowed; give a number from 0 to {length}, or '
                     f'positions from 0 to {length - 1}')


def _other_windows(global_positions: int | Sequence[int], layer_map: list[int], whole: set[int]) -> str:
    """What to say where a base with as many global positions has them at other blocks, so that neither closed gates nor
    the base's depth give its output."""
    depth = max(layer_map) + 1
    if not isinstance(global_positions, int) or global_positions > depth:
        return ''
    blocks = _spread(global_positions, depth)
    if {block for p, block in enumerate(layer_map) if p in whole and block not in layer_map[:p]} == blocks:
        return ''
    uses = [p for p, block in enumerate(layer_map) if block in blocks]
    return (f'with global_positions={global_positions} blocks {sorted(blocks)} of the base attend to the whole image, '
            f'in the grown net positions {sorted(whole)}: it does not start as the base. global_positions={uses} does')
