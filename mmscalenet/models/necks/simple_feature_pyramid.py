"""Simple feature pyramid: ViTDet, arXiv 2203.16527, section 3 and appendix A.2."""
from collections.abc import Sequence

import torch.nn as nn
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor

from mmscalenet.registry import MODELS


class LayerNorm2d(nn.LayerNorm):
    """Layer norm over the channels of a map (B, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).contiguous()


@MODELS.register_module()
class SimpleFeaturePyramid(BaseModule):
    """Maps of stride 4, 8, 16 and 32 (and coarser ones) from the last map of a plain transformer of stride 16.

    ::

        stride 16 -> deconv, deconv -> 1x1, 3x3 -> stride 4
                  -> deconv         -> 1x1, 3x3 -> stride 8
                  ->                   1x1, 3x3 -> stride 16
                  -> max-pool       -> 1x1, 3x3 -> stride 32 -> max-pool -> stride 64 ...

    Of a transformer with patches of P pixels all strides are P / 16 times these, which the heads have to be told:
    ``strides`` of the RPN's ``anchor_generator`` and ``featmap_strides`` of the RoI extractors. Training is refused
    where they are not (:class:`~mmscalenet.engine.hooks.DetectionStrideHook`).

    Args:
        in_channels (int | Sequence[int]): Channels C of the map; a sequence, as FPN takes, must hold one.
        out_channels (int): Channels of every output. Defaults to 256.
        num_outs (int): Number of outputs, 4 or more. Defaults to 5.
        init_cfg (dict, optional): Initialisation. Defaults to ``dict(type='Xavier', layer='Conv2d',
            distribution='uniform')``, that of mmdet's FPN.

    Raises:
        ValueError: If ``in_channels`` is not one number divisible by 4, or ``num_outs`` is below 4.
    """

    def __init__(self, in_channels: int | Sequence[int], out_channels: int = 256, num_outs: int = 5,
                 init_cfg: dict | None = dict(type='Xavier', layer='Conv2d', distribution='uniform')) -> None:
        super().__init__(init_cfg)
        channels = [in_channels] if isinstance(in_channels, int) else list(in_channels)
        if len(channels) != 1 or channels[0] % 4:
            raise ValueError(f'in_channels={in_channels!r} is not allowed; give the channels of the one map that comes '
                             'in, a multiple of 4')
        if num_outs < 4:
            raise ValueError(f'num_outs={num_outs!r} is not allowed; give 4 or more')
        width, = channels
        self.num_outs = num_outs
        half, quarter = width // 2, width // 4
        resize = [
            nn.Sequential(nn.ConvTranspose2d(width, half, 2, 2), LayerNorm2d(half, eps=1e-6), nn.GELU(),
                          nn.ConvTranspose2d(half, quarter, 2, 2)),
            nn.ConvTranspose2d(width, half, 2, 2),
            nn.Identity(),
            nn.MaxPool2d(2, 2, ceil_mode=True),
        ]
        self.levels = nn.ModuleList(
            nn.Sequential(module, nn.Conv2d(c, out_channels, 1, bias=False), LayerNorm2d(out_channels, eps=1e-6),
                          nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
                          LayerNorm2d(out_channels, eps=1e-6))
            for module, c in zip(resize, (quarter, half, width, width), strict=True))

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Build the pyramid.

        Args:
            inputs (Sequence[Tensor]): One map (B, C, H, W) of stride 16, or several, of which the last counts.

        Returns:
            tuple[Tensor, ...]: ``num_outs`` maps (B, out_channels, 4H, 4W), (B, out_channels, 2H, 2W), and so on down.
        """
        outs = [level(inputs[-1]) for level in self.levels]
        while len(outs) < self.num_outs:
            outs.append(F.max_pool2d(outs[-1], 1, 2))
        return tuple(outs)
