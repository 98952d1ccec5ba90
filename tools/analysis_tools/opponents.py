"""ScaleNet and what it is compared with: the same backbone of a library with all its blocks of its own."""
import copy

from mmdet.models import SwinTransformer as MMDetSwin
from mmpretrain.models import SwinTransformer as MMPretrainSwin
from mmpretrain.models import VisionTransformer
from torch import nn

from mmscalenet import ScaleNetDeiT, ScaleNetSwin

#: Height and width by the names that the command line takes.
SIZES = {'224': (224, 224), '512': (512, 512), '800x1333': (800, 1333)}
#: Opponent -> the sizes at which it is used. A ViT has the tokens of one size.
OPPONENTS = {'mmpretrain': tuple(SIZES), 'mmdet': tuple(SIZES), 'mmpretrain-vit': ('224', )}
ARCHS = ('tiny', 'small', 'base', 'large')
ALL_STAGES = (0, 1, 2, 3)


def build_opponent(opponent: str, arch: str, scale: int) -> nn.Module:
    """The library's own backbone with ``scale`` times the blocks of ``arch``, one of ``OPPONENTS``."""
    zoo = _zoo(opponent, arch)
    if opponent == 'mmpretrain-vit':
        return VisionTransformer(arch=dict(zoo, num_layers=scale * zoo['num_layers']))
    deep = dict(zoo, depths=[scale * depth for depth in zoo['depths']])
    if opponent == 'mmpretrain':
        return MMPretrainSwin(arch=deep, out_indices=ALL_STAGES, pad_small_map=True)
    return MMDetSwin(**deep)


def build_ours(opponent: str, arch: str, scale: int, **options) -> nn.Module:
    """ScaleNet of the opponent's depth, on the same parent; ``options`` are those of ``mmscalenet.expand``."""
    zoo = _zoo(opponent, arch)
    if opponent == 'mmpretrain-vit':
        return ScaleNetDeiT(base='mmpretrain.VisionTransformer', arch=zoo, scale=scale, **options)
    options |= dict(scale=scale, out_indices=ALL_STAGES)
    if opponent == 'mmpretrain':
        return ScaleNetSwin(arch=zoo, pad_small_map=True, **options)
    return ScaleNetSwin(base='mmdet.SwinTransformer', **zoo, **options)


def build_pair(opponent: str, arch: str, scale: int, adapter: bool) -> tuple[nn.Module, nn.Module]:
    """(opponent, ours) of the same depth, ours with the default adapters or without any."""
    chosen = dict(type='ParallelAdapter') if adapter else None
    return build_opponent(opponent, arch, scale), build_ours(opponent, arch, scale, adapter=chosen)


def _zoo(opponent: str, arch: str) -> dict:
    """The sizes of ``arch``, of which Swin's are the same in both libraries."""
    if opponent == 'mmpretrain-vit':
        return copy.deepcopy(VisionTransformer.arch_zoo[arch if arch == 'large' else f'deit-{arch}'])
    return copy.deepcopy(MMPretrainSwin.arch_zoo[arch])
