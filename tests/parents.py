"""The backbones of the three libraries that can be expanded, built small, and their ScaleNet twins."""
import torch
from mmdet.models import SwinTransformer as MMDetSwin
from mmpretrain.models import DistilledVisionTransformer, SwinTransformer, VisionTransformer
from mmseg.models import SwinTransformer as MMSegSwin
from mmseg.models import VisionTransformer as MMSegViT

import mmscalenet

DEIT_ARCH = dict(embed_dims=24, num_layers=4, num_heads=2, feedforward_channels=48)
SWIN_ARCH = dict(embed_dims=8, depths=[2, 2, 4, 2], num_heads=[1, 2, 2, 4])
SWIN_DIALECT = dict(embed_dims=8, depths=(2, 2, 4, 2), num_heads=(1, 2, 2, 4), window_size=4)

#: name -> (parent, its arguments, the argument ``base`` of its ScaleNet twin)
PARENTS = {
    'mmpretrain-vit': (VisionTransformer, dict(arch=DEIT_ARCH, img_size=32, patch_size=8), None),
    'mmpretrain-distilled': (DistilledVisionTransformer, dict(arch=DEIT_ARCH, img_size=32, patch_size=8),
                             'mmpretrain.DistilledVisionTransformer'),
    'mmpretrain-swin': (SwinTransformer, dict(arch=SWIN_ARCH, img_size=64, window_size=4, pad_small_map=True,
                                              out_indices=[0, 1, 2, 3]), None),
    'mmdet-swin': (MMDetSwin, SWIN_DIALECT, 'mmdet.SwinTransformer'),
    'mmseg-swin': (MMSegSwin, SWIN_DIALECT, 'mmseg.SwinTransformer'),
    'mmseg-vit': (MMSegViT, dict(embed_dims=24, num_layers=4, num_heads=2, mlp_ratio=2, img_size=32, patch_size=8),
                  None),
}


def randomise(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Fill every parameter with noise, norms and biases too, so that no mix-up of tensors stays unseen."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model


def build_parent(name: str, **kwargs) -> torch.nn.Module:
    parent, arguments, _ = PARENTS[name]
    return randomise(parent(**{**_copy(arguments), **kwargs}))


def build_scalenet(name: str, **kwargs) -> torch.nn.Module:
    _, arguments, base = PARENTS[name]
    cls = mmscalenet.ScaleNetSwin if 'swin' in name else mmscalenet.ScaleNetDeiT
    return cls(base=base, **{**_copy(arguments), **kwargs})


def copy_base(source: torch.nn.Module, target: torch.nn.Module) -> None:
    """Give ``target``'s blocks the weights of the unexpanded ``source``, by name; nothing else may be missing."""
    missing, unexpected = target.load_state_dict(source.state_dict(), strict=False)
    assert not unexpected
    assert all('.positions.' in name for name in missing), missing


def image(size: tuple[int, int] = (64, 64), batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(1))


def flatten(outputs: object) -> list[torch.Tensor]:
    """The tensors of nested tuples and lists, in order."""
    return [outputs] if isinstance(outputs, torch.Tensor) else [t for part in outputs for t in flatten(part)]


def _copy(arguments: dict) -> dict:
    return {key: list(value) if isinstance(value, list) else value for key, value in arguments.items()}
