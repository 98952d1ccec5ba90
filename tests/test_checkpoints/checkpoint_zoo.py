"""Tiny models of every source and target of a checkpoint, with random weights throughout.

A target is built by ``TARGETS[name](**kwargs)``; a source is a function that returns what its file holds and the
feature maps (B, C, H, W) that the source model itself computes from ``image(family)``.
"""
import mmdet.models.backbones as mmdet_backbones
import mmpretrain.models.backbones as mmpretrain_backbones
import mmseg.models.backbones as mmseg_backbones
import timm.models.deit
import timm.models.swin_transformer
import timm.models.vision_transformer
import torch
import torch.nn as nn
from mmengine.registry import MODELS, DefaultScope

DEPTHS = (2, 2, 2)
SWIN = dict(embed_dims=16, depths=DEPTHS, num_heads=(1, 2, 4), window_size=4, drop_path_rate=0.)
VIT = dict(embed_dims=32, num_layers=3, num_heads=4)
EPS = dict(type='LN', eps=1e-6)


def image(family: str) -> torch.Tensor:
    side = 128 if family == 'swin' else 32
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(7))


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Every parameter another random value, norms and bias tables included, so that a mapping error shows."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(0, .15, generator=generator)
            if parameter.dim() == 1 and name.endswith('weight'):
                parameter.add_(1)
    model.eval()  # returns None in mmpretrain
    return model


def mmpretrain_vit(cls: str = 'VisionTransformer', **kwargs) -> nn.Module:
    arch = dict(**VIT, feedforward_channels=128)
    arch.update({key: kwargs.pop(key) for key in list(kwargs) if key in arch})
    return getattr(mmpretrain_backbones, cls)(**{**dict(arch=arch, img_size=32, patch_size=8, out_type='featmap'),
                                                 **kwargs})


def mmpretrain_distilled(**kwargs) -> nn.Module:
    return mmpretrain_vit('DistilledVisionTransformer', **kwargs)


def mmseg_vit(**kwargs) -> nn.Module:
    return mmseg_backbones.VisionTransformer(**{**VIT, **dict(img_size=(32, 32), patch_size=8, norm_cfg=EPS,
                                                              patch_bias=True, final_norm=True), **kwargs})


def mmpretrain_swin(**kwargs) -> nn.Module:
    arch = {key: kwargs.pop(key, SWIN[key]) for key in ('embed_dims', 'depths', 'num_heads')}
    defaults = dict(img_size=128, window_size=4, drop_path_rate=0., out_indices=(0, 1, 2), pad_small_map=True)
    return mmpretrain_backbones.SwinTransformer(arch=arch, **{**defaults, **kwargs})


def mmdet_swin(**kwargs) -> nn.Module:
    return mmdet_backbones.SwinTransformer(**{**SWIN, **dict(out_indices=(0, 1, 2)), **kwargs})


def mmseg_swin(**kwargs) -> nn.Module:
    return mmseg_backbones.SwinTransformer(**{**SWIN, **dict(out_indices=(0, 1, 2)), **kwargs})


TARGETS = dict(mmpretrain_vit=mmpretrain_vit, mmpretrain_distilled=mmpretrain_distilled, mmseg_vit=mmseg_vit,
               mmpretrain_swin=mmpretrain_swin, mmdet_swin=mmdet_swin, mmseg_swin=mmseg_swin)


def timm_vit(cls: type = timm.models.vision_transformer.VisionTransformer, **kwargs) -> nn.Module:
    return cls(img_size=32, patch_size=8, embed_dim=32, depth=3, num_heads=4, num_classes=5, **kwargs)


def timm_swin() -> nn.Module:
    return timm.models.swin_transformer.SwinTransformer(
        img_size=128, patch_size=4, embed_dim=16, depths=DEPTHS, num_heads=(1, 2, 4), window_size=4, num_classes=5)


@torch.no_grad()
def maps(model: nn.Module, family: str) -> list[torch.Tensor]:
    """Feature maps of a model of any of the libraries."""
    x = image(family)
    if hasattr(model, 'forward_features'):  # timm
        out = model.forward_features(x)
        if family == 'swin':
            return [out.permute(0, 3, 1, 2)]
        out = out[:, model.num_prefix_tokens:]
        return [out.transpose(1, 2).reshape(len(x), -1, 4, 4)]
    model.eval()
    return list(model(x))


def to_official_swin(state: dict) -> dict:
    """timm's names to those of Microsoft's files: downsampling ends a stage, and buffers are saved."""
    result = {}
    for name, tensor in state.items():
        parts = name.split('.')
        if parts[2:3] == ['downsample']:
            parts[1] = str(int(parts[1]) - 1)
        result['.'.join(parts).replace('head.fc.', 'head.')] = tensor
    for stage, depth in enumerate(DEPTHS):
        for block in range(depth):
            start = f'layers.{stage}.blocks.{block}'
            result[f'{start}.attn.relative_position_index'] = torch.zeros(16, 16, dtype=torch.long)
            if block % 2:
                result[f'{start}.attn_mask'] = torch.full((64, 16, 16), -100.)
    return result


def _source(model: nn.Module, family: str) -> tuple[dict, list[torch.Tensor]]:
    randomise(model)
    return model.state_dict(), maps(model, family)


def official_swin() -> tuple[dict, list[torch.Tensor]]:
    state, out = _source(timm_swin(), 'swin')
    return {'model': to_official_swin(state), 'epoch': 300}, out


def early_mmpretrain_swin() -> tuple[dict, list[torch.Tensor]]:
    """Before version 2 of its Swin the last norm had no number; before version 3 masks were saved."""
    state, out = _source(mmpretrain_swin(out_indices=(2, )), 'swin')
    state = {f'backbone.{name.replace("norm2.", "norm.") if name.startswith("norm2.") else name}': tensor
             for name, tensor in state.items()}
    return {'state_dict': {**state, 'backbone.stages.0.blocks.1.attn.attn_mask': torch.zeros(4, 16, 16),
                           'head.fc.weight': torch.ones(2, 64)}}, out


def _whole(library: str, **parts) -> nn.Module:
    """A model of a library with the small Swin or ViT as its backbone."""
    with DefaultScope.overwrite_default_scope(library):
        return MODELS.build(parts)


def _file_of(model: nn.Module, family: str) -> tuple[dict, list[torch.Tensor]]:
    """What a runner saves of a whole model, and what its backbone computes."""
    randomise(model)
    return {'meta': dict(epoch=1), 'state_dict': model.state_dict()}, maps(model.backbone, family)


def whole_detector() -> tuple[dict, list[torch.Tensor]]:
    file, out = _file_of(_whole(
        'mmdet', type='RetinaNet', backbone=dict(type='SwinTransformer', **SWIN, out_indices=(0, 1, 2)),
        neck=dict(type='FPN', in_channels=[16, 32, 64], out_channels=8, num_outs=3),
        bbox_head=dict(type='RetinaHead', num_classes=3, in_channels=8, feat_channels=8, stacked_convs=1)), 'swin')
    file['state_dict']['bbox_head.retina_cls.bias'].fill_(float('nan'))  # is nobody's business
    return file, out


def whole_segmentor() -> tuple[dict, list[torch.Tensor]]:
    vit = dict(type='VisionTransformer', **VIT, img_size=(32, 32), patch_size=8, norm_cfg=EPS, patch_bias=True,
               final_norm=True)
    head = dict(type='FCNHead', in_channels=32, channels=8, num_convs=1, num_classes=3,
                norm_cfg=dict(type='GN', num_groups=2))
    return _file_of(_whole('mmseg', type='EncoderDecoder', backbone=vit, decode_head=head), 'vit')


def _timm_vit(*args, **kwargs):
    return lambda: _source(timm_vit(*args, **kwargs), 'vit')


#: Source -> (family, what makes it, names in the file that no backbone has; None: all but those of its backbone)
SOURCES = dict(
    timm_deit=('vit', _timm_vit(), {'head.weight', 'head.bias'}),
    deit3=('scaled_vit', _timm_vit(init_values=.1, no_embed_class=True), {'head.weight', 'head.bias'}),
    timm_distilled=('distilled', _timm_vit(timm.models.deit.VisionTransformerDistilled),
                    {'head.weight', 'head.bias', 'head_dist.weight', 'head_dist.bias'}),
    mmpretrain_vit=('vit', lambda: _source(mmpretrain_vit(), 'vit'), set()),
    mmpretrain_distilled=('distilled', lambda: _source(mmpretrain_distilled(), 'vit'), set()),
    mmseg_vit=('vit', lambda: _source(mmseg_vit(), 'vit'), set()),
    timm_swin=('swin', lambda: _source(timm_swin(), 'swin'), {'head.fc.weight', 'head.fc.bias'}),
    official_swin=('swin', official_swin, {'head.weight', 'head.bias'}),
    mmpretrain_swin=('swin', lambda: _source(mmpretrain_swin(), 'swin'), set()),
    mmdet_swin=('swin', lambda: _source(mmdet_swin(), 'swin'), set()),
    mmseg_swin=('swin', lambda: _source(mmseg_swin(), 'swin'), set()),
    early_mmpretrain_swin=('swin', early_mmpretrain_swin, {'head.fc.weight'}),
    whole_detector=('swin', whole_detector, None),
    whole_segmentor=('vit', whole_segmentor, None),
)
#: Family of the source -> targets that take it
TAKERS = dict(vit={'mmpretrain_vit': {}, 'mmseg_vit': {}}, distilled={'mmpretrain_distilled': {}},
              scaled_vit={'mmpretrain_vit': dict(layer_scale_init_value=.1)},
              swin={'mmpretrain_swin': {}, 'mmdet_swin': {}, 'mmseg_swin': {}})
