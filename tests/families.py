"""Backbones of the three libraries beyond DeiT and Swin that can be expanded, built small."""
import torch
from mmdet.models import PyramidVisionTransformer, PyramidVisionTransformerV2
from mmpretrain.models import (
    PCPVT,
    SVT,
    BEiTViT,
    ConvNeXt,
    DaViT,
    DeiT3,
    HiViT,
    HorNet,
    MlpMixer,
    MViT,
    PoolFormer,
    SwinTransformerV2,
    T2T_ViT,
    ViTEVA02,
    XCiT,
)
from mmseg.models import MAE, MSCAN, BEiT, MixVisionTransformer
from mmseg.models import PCPVT as MMSegPCPVT
from mmseg.models import SVT as MMSegSVT
from parents import DEIT_ARCH, randomise
from torch import nn

VIT = dict(arch=DEIT_ARCH, img_size=32, patch_size=8)
CONVNEXT = dict(arch=dict(depths=[2, 2, 3, 2], channels=[8, 16, 16, 24]), out_indices=(0, 3), drop_path_rate=0.2)
TWINS = dict(embed_dims=[8, 16, 16, 32], num_heads=[1, 2, 2, 4], mlp_ratios=[2, 2, 2, 2], depths=[2, 2, 4, 2],
             out_indices=(1, 3), drop_path_rate=0.2)

#: name -> (class, its arguments); images are 64 x 64, or of the side of ``img_size``
FAMILIES = {
    'mmpretrain-convnext': (ConvNeXt, CONVNEXT),
    'mmpretrain-convnext-v2': (ConvNeXt, CONVNEXT | dict(use_grn=True, layer_scale_init_value=0.)),
    'mmpretrain-convnext-convolutions': (ConvNeXt, CONVNEXT | dict(linear_pw_conv=False)),
    'mmpretrain-hornet': (HorNet, dict(
        arch=dict(base_dim=8, depths=[2, 2, 3, 2], orders=[2, 2, 2, 2],
                  dw_cfg=[dict(type='DW', kernel_size=7)] * 4), out_indices=(1, 3), drop_path_rate=0.2)),
    'mmpretrain-poolformer': (PoolFormer, dict(
        arch=dict(layers=[2, 2, 3, 2], embed_dims=[8, 16, 24, 32], mlp_ratios=[2, 2, 2, 2],
                  layer_scale_init_value=0.1), out_indices=(2, 6), drop_path_rate=0.2)),
    'mmpretrain-swin-v2': (SwinTransformerV2, dict(
        arch=dict(embed_dims=8, depths=[2, 2, 4, 2], num_heads=[1, 2, 2, 4], extra_norm_every_n_blocks=0), img_size=64,
        window_size=4, pad_small_map=True, out_indices=(1, 3), drop_path_rate=0.2)),
    'mmpretrain-beit': (BEiTViT, VIT | dict(out_indices=(1, 3), out_type='featmap', drop_path_rate=0.2)),
    'mmpretrain-eva02': (ViTEVA02, VIT | dict(out_indices=(1, 3), out_type='featmap', drop_path_rate=0.2)),
    'mmpretrain-deit3': (DeiT3, VIT | dict(out_indices=(1, 3), out_type='featmap', drop_path_rate=0.2)),
    'mmpretrain-t2t': (T2T_ViT, dict(
        img_size=32, embed_dims=24, num_layers=4, out_indices=(1, 3), out_type='featmap', drop_path_rate=0.2,
        t2t_cfg=dict(token_dims=8, use_performer=False),
        layer_cfgs=dict(num_heads=2, feedforward_channels=48))),
    'mmpretrain-xcit': (XCiT, dict(img_size=64, patch_size=16, embed_dims=16, depth=4, num_heads=2,
                                   out_indices=(1, 3, 5), out_type='raw', drop_path_rate=0.2)),
    'mmpretrain-hivit': (HiViT, dict(arch=dict(embed_dims=32, depths=[1, 1, 8], num_heads=2), img_size=32, patch_size=8,
                                     inner_patches=4, out_indices=[7], drop_path_rate=0.2)),
    'mmpretrain-mvit': (MViT, dict(
        arch=dict(embed_dims=8, num_layers=7, num_heads=1, downscale_indices=[1, 4]), img_size=64, out_scales=[0, 1, 2],
        drop_path_rate=0.2)),
    'mmpretrain-mvit-late-dims': (MViT, dict(
        arch=dict(embed_dims=8, num_layers=7, num_heads=1, downscale_indices=[2, 5]), img_size=64, out_scales=[2],
        dim_mul_in_attention=False)),
    'mmpretrain-pcpvt': (PCPVT, dict(
        arch=dict(embed_dims=[8, 16, 16, 32], depths=[2, 2, 3, 2], num_heads=[1, 2, 2, 4], patch_sizes=[4, 2, 2, 2],
                  strides=[4, 2, 2, 2], mlp_ratios=[2, 2, 2, 2], sr_ratios=[8, 4, 2, 1]),
        out_indices=(1, 3), drop_path_rate=0.2)),
    'mmpretrain-svt': (SVT, dict(
        arch=dict(embed_dims=[8, 16, 16, 32], depths=[2, 2, 4, 2], num_heads=[1, 2, 2, 4], patch_sizes=[4, 2, 2, 2],
                  strides=[4, 2, 2, 2], mlp_ratios=[2, 2, 2, 2], sr_ratios=[8, 4, 2, 1], window_sizes=[4, 4, 4, 4]),
        out_indices=(1, 3), drop_path_rate=0.2)),
    'mmpretrain-davit': (DaViT, dict(arch=dict(embed_dims=8, depths=[1, 1, 3, 1], num_heads=[1, 2, 2, 4]),
                                     window_size=2, out_indices=(1, 3), drop_path_rate=0.2)),
    'mmpretrain-mixer': (MlpMixer, dict(arch=dict(embed_dims=24, num_layers=4, tokens_mlp_dims=8, channels_mlp_dims=16),
                                        img_size=32, patch_size=8)),
    'mmseg-beit': (BEiT, dict(img_size=32, patch_size=8, embed_dims=24, num_layers=4, num_heads=2, out_indices=(1, 3),
                              init_values=0.1, drop_path_rate=0.2)),
    'mmseg-mae': (MAE, dict(img_size=32, patch_size=8, embed_dims=24, num_layers=4, num_heads=2, out_indices=(1, 3),
                            init_values=0.1, drop_path_rate=0.2)),
    'mmseg-mit': (MixVisionTransformer, dict(embed_dims=8, num_layers=[2, 2, 3, 2], num_heads=[1, 2, 2, 4],
                                             drop_path_rate=0.2)),
    'mmseg-mscan': (MSCAN, dict(embed_dims=[8, 16, 16, 24], depths=[2, 2, 3, 2], mlp_ratios=[2, 2, 2, 2],
                                drop_path_rate=0.2, norm_cfg=dict(type='BN'))),
    'mmseg-pcpvt': (MMSegPCPVT, TWINS),
    'mmseg-svt': (MMSegSVT, TWINS | dict(windiow_sizes=[4, 4, 4, 4], strides=[4, 2, 2, 2], sr_ratios=[8, 4, 2, 1])),
    'mmdet-pvt': (PyramidVisionTransformer, dict(
        pretrain_img_size=64, embed_dims=8, num_layers=[2, 2, 3, 2], num_heads=[1, 2, 2, 4], drop_path_rate=0.2)),
    'mmdet-pvt-v2': (PyramidVisionTransformerV2, dict(
        embed_dims=8, num_layers=[2, 2, 3, 2], num_heads=[1, 2, 2, 4], drop_path_rate=0.2)),
}


def build_family(name: str, **kwargs) -> torch.nn.Module:
    parent, arguments = FAMILIES[name]
    arguments = {key: list(value) if isinstance(value, list) else value for key, value in arguments.items()}
    return randomise(parent(**{**arguments, **kwargs}))


def family_image(name: str, batch: int = 2, seed: int = 1) -> torch.Tensor:
    side = FAMILIES[name][1].get('img_size', 64)
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(seed))


def deeper(name: str, **kwargs) -> torch.nn.Module:
    """The parent with twice the blocks."""
    parent, arguments = FAMILIES[name]

    def double(key: str, value: object) -> object:
        if key in ('depths', 'layers', 'num_layers', 'depth'):
            return 2 * value if isinstance(value, int) else [2 * depth for depth in value]
        if isinstance(value, dict):
            return {inner: double(inner, part) for inner, part in value.items()}
        if key == 'out_indices' and COUNTS_BLOCKS.get(name):  # XCiT counts two more after its list
            return [2 * i + 1 if i < COUNTS_BLOCKS[name] else i + COUNTS_BLOCKS[name] for i in value]
        return list(value) if isinstance(value, list) else value

    return parent(**{key: double(key, value) for key, value in {**arguments, **kwargs}.items()})


#: Of those whose ``out_indices`` counts blocks: how many there are.
COUNTS_BLOCKS = dict.fromkeys(['mmpretrain-beit', 'mmpretrain-eva02', 'mmpretrain-deit3', 'mmpretrain-t2t',
                               'mmpretrain-xcit', 'mmpretrain-mixer', 'mmseg-beit', 'mmseg-mae'], 4)


def outputs_of(model: nn.Module, name: str, training: bool = False) -> object:
    """Of the family's image. Not ``model.eval()(image)``, as ``eval`` of some parents returns nothing."""
    model.train(training)
    return model(family_image(name))
