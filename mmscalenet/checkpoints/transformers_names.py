"""From the names of transformers' ViT, DeiT, DINOv2 and Swin to the official ones, which timm shares.

https://github.com/huggingface/transformers, src/transformers/models/{vit,deit,dinov2,dinov2_with_registers,swin}
"""
import re
from collections.abc import Mapping

import torch
from torch import Tensor

from .renaming import Rules, rename

_RULES: Rules = (
    (r'^embeddings\.patch_embeddings\.projection\.', 'patch_embed.proj.'),
    (r'^embeddings\.norm\.', 'patch_embed.norm.'),
    (r'^embeddings\.position_embeddings$', 'pos_embed'),
    (r'^embeddings\.distillation_token$', 'dist_token'),
    (r'^embeddings\.', ''),
    (r'^encoder\.layer\.', 'blocks.'),
    (r'^encoder\.layers\.', 'layers.'),
    (r'^layernorm\.', 'norm.'),
    (r'^hidden_states_norms\.stage(\d+)\.', lambda match: f'norm{int(match[1]) - 1}.'),
    (r'\.layernorm_before\.', '.norm1.'),
    (r'\.layernorm_after\.', '.norm2.'),
    (r'\.attention\.output\.dense\.', '.attn.proj.'),
    (r'\.attention\.(attention|self)\.', '.attn.'),
    (r'\.intermediate\.dense\.', '.mlp.fc1.'),
    (r'\.output\.dense\.', '.mlp.fc2.'),
    (r'\.mlp\.weights_in\.', '.mlp.w12.'),
    (r'\.mlp\.weights_out\.', '.mlp.w3.'),
    (r'\.layer_scale([12])\.lambda1$', r'.ls\1.gamma'),
)


def to_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a backbone of transformers under official names, query, key and value in one."""
    result = rename(state, _RULES)
    for name in [name for name in result if '.attn.query.' in name]:
        parts = [name.replace('.query.', f'.{part}.') for part in ('query', 'key', 'value')]
        if all(part in result for part in parts):  # else they stay, and are refused by name
            result[name.replace('.query.', '.qkv.')] = torch.cat([result.pop(part) for part in parts])
    return result


def is_of_transformers(state: Mapping[str, Tensor]) -> bool:
    return any(re.match(r'encoder\.layers?\.\d+\.', name) for name in state)
