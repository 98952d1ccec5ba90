"""Other names of families that have no format of their own, to those of their library.

https://github.com/facebookresearch/ConvNeXt, https://github.com/microsoft/unilm (beit),
https://github.com/huggingface/pytorch-image-models (convnext.py, beit.py),
https://github.com/huggingface/transformers (convnext, convnextv2)
"""
import re
from collections.abc import Mapping

import torch.nn as nn
from torch import Tensor

from .renaming import Rules, rename

_CONVNEXT: Rules = (
    (r'(^|\.)(stem\.|embeddings\.(?=patch_embeddings|layernorm))', r'\1downsample_layers.0.'),
    (r'(downsample_layers\.0\.)patch_embeddings\.', r'\g<1>0.'),
    (r'(downsample_layers\.0\.)layernorm\.', r'\g<1>1.'),
    (r'(^|\.)encoder\.(stages\.\d+\.)', r'\1\2'),
    (r'(^|\.)stages\.(\d+)\.(downsample|downsampling_layer)\.', r'\1downsample_layers.\2.'),
    (r'(stages\.\d+\.)(blocks|layers)\.', r'\1'),
    (r'\.(conv_dw|dwconv)\.', '.depthwise_conv.'),
    (r'\.(mlp\.fc|pwconv)([12])\.', r'.pointwise_conv\2.'),
    (r'\.layer_scale_parameter$', '.gamma'),
    (r'(\.\d+)\.layernorm\.', r'\1.norm.'),
    (r'\.(mlp\.)?grn\.weight$', '.grn.gamma'),
    (r'\.(mlp\.)?grn\.bias$', '.grn.beta'),
    (r'(^|\.)(head\.norm|layernorm|norm)\.(?=weight$|bias$)(?<!\d\.norm\.)', r'\1norm3.'),
)
_BEIT: Rules = (
    (r'(^|\.)patch_embed\.proj\.', r'\1patch_embed.projection.'),
    (r'(^|\.)blocks\.', r'\1layers.'),
    (r'(layers\.\d+)\.norm([12])\.', r'\1.ln\2.'),
    (r'\.mlp\.fc1\.', '.ffn.layers.0.0.'),
    (r'\.mlp\.fc2\.', '.ffn.layers.1.'),
    (r'(^|\.)norm\.', r'\1ln1.'),
    (r'(^|\.)fc_norm\.', r'\1ln2.'),
)
#: Parent -> a name that none of its own files has, and the rules for files that have it.
_FAMILIES: dict[str, tuple[str, Rules]] = {
    'ConvNeXt': (r'(conv_dw|dwconv)\.', _CONVNEXT),
    'BEiTViT': (r'(^|\.)blocks\.\d+\.', _BEIT),
}


def to_library(backbone: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a file under the names of the backbone's library; as they are where they have them."""
    for kind in type(backbone).__mro__:
        other, rules = _FAMILIES.get(kind.__name__, (None, ()))
        if other and any(re.search(other, name) for name in tensors):
            renamed = rename(tensors, rules)
            return {name: value.flatten() if '.grn.' in name else value for name, value in renamed.items()}
    return dict(tensors)
