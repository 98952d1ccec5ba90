"""Families: where a backbone keeps its blocks.

A further one costs an entry in ``LISTS`` if it keeps them elsewhere, and one in :mod:`~mmscalenet.expansion.blocks` for
adapters, gates and norms within its blocks.
"""
from collections.abc import Iterator
from fnmatch import fnmatch

import torch.nn as nn

#: Backbone -> its lists of blocks, by dotted names with wildcards.
LISTS: dict[str, str] = {
    'mmpretrain.models.backbones.vision_transformer.VisionTransformer': 'layers',
    'mmpretrain.models.backbones.beit.BEiTViT': 'layers',
    'mmpretrain.models.backbones.mlp_mixer.MlpMixer': 'layers',
    'mmpretrain.models.backbones.swin_transformer.SwinTransformer': 'stages.*.blocks',
    'mmpretrain.models.backbones.swin_transformer_v2.SwinTransformerV2': 'stages.*.blocks',
    'mmpretrain.models.backbones.davit.DaViT': 'stages.*.blocks',
    'mmpretrain.models.backbones.convnext.ConvNeXt': 'stages.*',
    'mmpretrain.models.backbones.hornet.HorNet': 'stages.*',
    'mmpretrain.models.backbones.poolformer.PoolFormer': 'network.*',
    'mmpretrain.models.backbones.t2t_vit.T2T_ViT': 'encoder',
    'mmpretrain.models.backbones.twins.PCPVT': 'stages.*',
    'mmpretrain.models.backbones.xcit.XCiT': 'xca_layers',
    'mmpretrain.models.backbones.mvit.MViT': 'blocks',
    'mmpretrain.models.backbones.hivit.HiViT': 'blocks',
    'mmseg.models.backbones.vit.VisionTransformer': 'layers',
    'mmseg.models.backbones.beit.BEiT': 'layers',
    'mmseg.models.backbones.swin.SwinTransformer': 'stages.*.blocks',
    'mmseg.models.backbones.mit.MixVisionTransformer': 'layers.*.1',
    'mmseg.models.backbones.mscan.MSCAN': 'block?',
    'mmseg.models.backbones.twins.PCPVT': 'layers.*',
    'mmdet.models.backbones.swin.SwinTransformer': 'stages.*.blocks',
    'mmdet.models.backbones.pvt.PyramidVisionTransformer': 'layers.*.1',
}
#: Where backbones that are not known are looked at, in this order.
USUAL_LISTS = ('stages.*.blocks', 'layers')

#: Backbones that look as if they could be expanded, and why they cannot.
REFUSED: dict[str, str] = {
    'mmpretrain.models.backbones.mixmim.MixMIMTransformer': 'its `layers` are stages, and each ends in another size',
    'mmpretrain.models.backbones.tnt.TNT': 'a block takes and gives two kinds of tokens, pixels and patches',
    'mmpretrain.models.backbones.revvit.RevVisionTransformer': 'its backward pass inverts every block, and a position '
                                                               'that adds to one is not inverted with it',
    'mmpretrain.models.backbones.efficientformer.EfficientFormer': 'its blocks of maps and of tokens stand in one list '
                                                                   'with what turns the one into the other',
    'mmpretrain.models.backbones.mobilevit.MobileViT': 'its `layers` are stages, and each ends in another size',
    'mmpretrain.models.selfsup.itpn.iTPNHiViT': 'it looks in its list for blocks of a class, and finds positions. '
                                                'Grow the HiViT that it pretrains',
}

#: Lists whose blocks ``out_indices`` counts; other lists are stages.
COUNTED_LISTS = ('layers', 'encoder', 'xca_layers')


def is_known(backbone: type) -> bool:
    """Whether objects of the class can be expanded, as far as is known without one."""
    return any(name in LISTS for name in _names(backbone)) and refusal(backbone) is None


def refusal(backbone: type) -> str | None:
    """Why objects of the class cannot be expanded, where that is known."""
    return next((REFUSED[name] for name in _names(backbone) if name in REFUSED), None)


def known_families() -> str:
    """Their names, for messages."""
    return ', '.join(dict.fromkeys(name.rpartition('.')[2] for name in LISTS))


def _names(backbone: type) -> list[str]:
    return [f'{c.__module__}.{c.__qualname__}' for c in backbone.__mro__]


def block_owners(backbone: nn.Module) -> dict[str, tuple[nn.Module, str]]:
    """Where the blocks are: dotted name of each list -> (module that owns it, its attribute there).

    Raises:
        TypeError: If it is not known where, or the backbone cannot be expanded.
    """
    names = _names(type(backbone))
    if reason := refusal(type(backbone)):
        raise TypeError(f'cannot expand a {type(backbone).__name__}: {reason}')
    known = next((LISTS[name] for name in names if name in LISTS), None)
    for pattern in [known] if known else USUAL_LISTS:
        found = dict(_find(backbone, pattern.split('.')))
        if found and (known or _is_uniform(found)):
            return found
    hint = '. Expand its `backbone`' if isinstance(getattr(backbone, 'backbone', None), nn.Module) else ''
    raise TypeError(f'cannot expand a {type(backbone).__name__}: it keeps its blocks neither in `layers` (as '
                    'VisionTransformer does) nor in `stages[i].blocks` (as SwinTransformer does), one kind in a list, '
                    f'and is none of {known_families()}{hint}')


def _find(module: nn.Module, pattern: list[str], before: str = '') -> Iterator[tuple[str, tuple[nn.Module, str]]]:
    head, *rest = pattern
    for name, child in module.named_children():
        if not fnmatch(name, head):
            continue
        if rest:
            yield from _find(child, rest, f'{before}{name}.')
        elif isinstance(child, (nn.ModuleList, nn.Sequential)) and len(child):
            yield f'{before}{name}', (module, name)


def _is_uniform(found: dict[str, tuple[nn.Module, str]]) -> bool:
    """Whether every list holds blocks of one class, and no lists."""
    for owner, name in found.values():
        kinds = {type(block) for block in getattr(owner, name)}
        if len(kinds) > 1 or issubclass(kinds.pop(), (nn.ModuleList, nn.Sequential)):
            return False
    return True


def window_period(blocks: list[nn.Module]) -> int:
    """2 where two kinds of blocks take turns: plain and shifted windows, or local and global attention."""
    if len(runs_of(blocks)) > 1:  # what stands between the runs takes no turns: PVT's embedding
        return 1
    takes_turns = hasattr(getattr(blocks[0], 'attn', None), 'shift_size') or _takes_turns(list(map(type, blocks)))
    return min(2 if takes_turns else 1, len(blocks))


def _takes_turns(kinds: list[type]) -> bool:
    return len(set(kinds)) == 2 and all(kind is kinds[i % 2] for i, kind in enumerate(kinds))


def window_shift(block: nn.Module) -> int | None:
    """Shift of the block's window in tokens; None where there are no windows."""
    return getattr(getattr(block, 'attn', None), 'shift_size', None)


def runs_of(blocks: list[nn.Module]) -> list[range]:
    """The parts of a list that can run again as a whole, and between them single blocks that cannot.

    Most lists are one. MViT and HiViT keep all stages in one list, with blocks between them that change the size.
    """
    runs: list[range] = []
    for i, block in enumerate(blocks):
        follows = i > 0 and not runs_once(block) and not runs_once(blocks[i - 1]) \
            and _channels(block) == _channels(blocks[i - 1])
        if follows:
            runs[-1] = range(runs[-1].start, i + 1)
        else:
            runs.append(range(i, i + 1))
    return runs


def runs_once(block: nn.Module) -> bool:
    """What changes the size, as MViT's first block of a stage and HiViT's merging of patches, or adds an embedding, as
    the first of PVT's lists."""
    return (hasattr(block, 'pos_embed') or getattr(block, 'pool_skip', None) is not None or hasattr(block, 'reduction')
            or getattr(block, 'in_dims', 0) != getattr(block, 'out_dims', 0))


def _channels(block: nn.Module) -> int | None:
    return getattr(block, 'dim', None) or getattr(block, 'out_dims', None)
