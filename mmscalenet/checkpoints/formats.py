"""From every source's names to one naming, and from that to any parent's: pure functions on dicts of tensors.

The one naming is mmpretrain's, which mmdet and mmseg share for Swin; only mmseg's ViT has names of its own.

Sources:
    https://github.com/facebookresearch/deit (names of timm's VisionTransformer)
    https://github.com/microsoft/Swin-Transformer
    https://github.com/huggingface/pytorch-image-models (its current Swin)
    https://github.com/facebookresearch/dinov2 (names of timm's VisionTransformer, and register tokens)
    https://github.com/huggingface/transformers (see transformers_names.py)
"""
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from .errors import CheckpointError, some
from .renaming import Rules, rename
from .transformers_names import is_of_transformers, to_official

#: Where files keep the weights, best first; mmengine's EMA hook puts the averaged ones under 'state_dict' itself.
WRAPPERS = ('state_dict', 'model', 'state_dict_ema', 'model_ema', 'ema_state_dict')
#: Recomputed by the model itself.
BUFFERS = ('attn_mask', 'relative_position_index')
HEADS = r'(head|head_dist|pre_logits|fc|pooler)\.'
#: What pretraining by masked images (MAE, SimMIM, DINOv2, BEiT) leaves beside a backbone.
PRETRAINING = r'mask_token$|decoder_|lm_head\.'
#: Where files keep a backbone, first as it is alone.
USUAL_PREFIXES = ('', 'backbone.', 'module.', 'module.backbone.')
#: The one tensor by which a backbone is found.
STEM = r'(?:^|\.)((?:patch_embed\.proj(?:ection)?|embeddings\.patch_embeddings\.projection)\.weight)$'

_COMMON: Rules = (
    (r'^patch_embed\.proj\.', 'patch_embed.projection.'),
    (r'\.mlp\.fc1\.', '.ffn.layers.0.0.'),
    (r'\.mlp\.fc2\.', '.ffn.layers.1.'),
    (r'\.mlp\.w(12|3)\.', r'.ffn.w\1.'),  # SwiGLU
)
_OFFICIAL_VIT: Rules = (
    *_COMMON,
    (r'^blocks\.', 'layers.'),
    (r'^(layers\.\d+)\.norm([12])\.', r'\1.ln\2.'),
    (r'^norm\.', 'ln1.'),
    (r'^fc_norm\.', 'ln2.'),
    (r'^norm_pre\.', 'pre_norm.'),
    (r'^reg_token$', 'register_tokens'),  # timm's
    (r'\.(?:ls1\.gamma|gamma_1)$', '.attn.gamma1.weight'),
    (r'\.(?:ls2\.gamma|gamma_2)$', '.ffn.gamma2.weight'),
)
_OFFICIAL_SWIN: Rules = (
    *_COMMON,
    (r'^layers\.', 'stages.'),
    (r'\.attn\.', '.attn.w_msa.'),
)
_FROM_MMSEG_VIT: Rules = (
    (r'\.attn\.attn\.in_proj_(weight|bias)$', r'.attn.qkv.\1'),
    (r'\.attn\.attn\.out_proj\.', '.attn.proj.'),
    (r'\.attn/attn/in_proj_weight$', '.attn/qkv/weight'),  # LoRA's
    (r'\.attn/attn/out_proj/weight$', '.attn/proj/weight'),
    (r'^ln_pre\.', 'pre_norm.'),
)
_TO_MMSEG_VIT: Rules = (
    (r'\.attn\.qkv\.(weight|bias)$', r'.attn.attn.in_proj_\1'),
    (r'\.attn\.proj\.', '.attn.attn.out_proj.'),
    (r'\.attn/qkv/weight$', '.attn/attn/in_proj_weight'),
    (r'\.attn/proj/weight$', '.attn/attn/out_proj/weight'),
    (r'^pre_norm\.', 'ln_pre.'),
)


@dataclass
class Source:
    """A backbone found in a file.

    Attributes:
        name (str): The recognised format.
        state (dict[str, Tensor]): The backbone's tensors under mmpretrain's names.
        ignored (list[str]): Names, as in the file, of what is not the backbone's.
        prefix (str): What its names start with in the file.
    """
    name: str
    state: dict[str, Tensor]
    ignored: list[str] = field(default_factory=list)
    prefix: str = ''


def convert(checkpoint: Mapping, prefix: str | None = None) -> Source:
    """Find the backbone in a checkpoint of any known format and put it under mmpretrain's names.

    Args:
        checkpoint (Mapping): What a file holds: a state dict or something around one.
        prefix (str, optional): What the backbone's names start with. Defaults to None: it is found.

    Returns:
        Source: The backbone and what was left out.

    Raises:
        CheckpointError: If there is no backbone of a known format in it, or several.
    """
    tensors = unwrap(checkpoint)
    _refuse_rotary_positions(tensors)
    start = find_backbone(tensors, prefix)
    backbone, ignored = {}, []
    for key, tensor in tensors.items():
        name = key.removeprefix(start)
        if not key.startswith(start) or re.match(HEADS, name) or name.rpartition('.')[2] in BUFFERS:
            ignored.append(key)
        else:
            backbone[name] = tensor
    name, state = _to_mmpretrain(backbone)
    if any('.positions.' in key for key in state):
        name = f'expanded ScaleNet ({name})'
    return Source(name, state, ignored, start)


def unwrap(checkpoint: Mapping) -> dict[str, Tensor]:
    """The tensors of the state dict inside a checkpoint."""
    # single numbers are counters beside a backbone, unless an adapter has one
    tensors = {key: value for key, value in state_dict_in(checkpoint).items()
               if isinstance(key, str) and isinstance(value, Tensor) and (value.dim() or '.positions.' in key)}
    if not tensors:
        raise CheckpointError(f'no tensors in it, neither at the top nor under {", ".join(WRAPPERS)}; it holds '
                              f'{some(key if isinstance(key, str) else type(key).__name__ for key in checkpoint)}')
    return tensors


def state_dict_in(checkpoint: Mapping) -> Mapping:
    """The state dict inside a checkpoint, or the checkpoint itself."""
    state = checkpoint
    for _ in range(len(WRAPPERS)):  # bounded: a crafted file can contain itself
        state = next((state[key] for key in WRAPPERS if isinstance(state.get(key), Mapping)), state)
    return state


def find_backbone(names: Mapping, prefix: str | None = None) -> str:
    """What the names of the backbone start with, '' included."""
    found = [key[:match.start(1)] for key in names if (match := re.search(STEM, key))]
    if not found:
        raise CheckpointError('no ViT or Swin backbone in it: neither patch_embed.projection.weight (mmpretrain, '
                              'mmdet, mmseg), patch_embed.proj.weight (official, timm) nor '
                              'embeddings.patch_embeddings.projection.weight (transformers) is there; its names start '
                              f'with {some(key.split(".")[0] for key in names)}')
    if prefix:
        end = prefix.rstrip('.') + '.'
        matching = [end] if end in found else [start for start in found if start.endswith(f'.{end}')]
        if len(matching) != 1:
            raise CheckpointError(f'prefix={prefix!r} matches {len(matching) or "no"} backbone in it; allowed are '
                                  f'{some(map(repr, found))}')
        return matching[0]
    for usual in USUAL_PREFIXES:
        if usual in found:
            return usual
    if len(found) > 1:
        raise CheckpointError(f'several backbones in it; say which with prefix: {some(map(repr, found))}')
    return found[0]


def to_mmseg(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """mmpretrain's names to those of mmseg's ViT; Swin's are the same."""
    return dict(state) if is_swin(state) else rename(state, _TO_MMSEG_VIT)


def is_swin(names: Mapping) -> bool:
    return any(name.startswith('stages.') for name in names)


def _refuse_rotary_positions(names: Iterable[str]) -> None:
    """DINOv3, as any of the three sources names it."""
    last = {name.rpartition('.')[2] for name in names}
    if last & {'storage_tokens', 'register_tokens', 'reg_token'} and not last & {'pos_embed', 'position_embeddings'}:
        raise CheckpointError('it has register or storage tokens and no position embedding: a DINOv3, whose rotary '
                              'positions no parent here has; take a file of DINOv2')


def _to_mmpretrain(state: dict[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    def has(pattern: str) -> bool:
        return any(re.match(pattern, name) for name in state)

    if has(r'.*\.(cpb_mlp|continuous_position_bias_mlp)\.'):
        raise CheckpointError('a Swin V2, which has another attention; take a file of the first Swin')
    if has(r'rel_pos_bias\.|(blocks|layers)\.\d+\.attn\.(q_bias|relative_position_bias_table)'):
        raise CheckpointError("a BEiT, whose attention no ViT has; the parent for it is base='mmpretrain.BEiTViT'")
    if has(r'stages\.\d+\.blocks\.'):
        return 'Swin of mmpretrain, mmdet or mmseg', _number_last_norm(state)
    if has(r'layers\.\d+\.blocks\.'):
        # in timm's current Swin a stage starts with its downsampling, in the official one it ends with it
        starts = has(r'layers\.\d+\.downsample\.') and not has(r'layers\.0\.downsample\.')
        return "timm's Swin" if starts else 'official Swin', _from_official_swin(state, starts)
    if has(r'blocks\.\d+\.'):
        return 'official DeiT or timm ViT', rename(state, _OFFICIAL_VIT)
    if has(r'layers\.\d+\.attn\.attn\.in_proj_weight'):
        return 'ViT of mmseg', rename(state, _FROM_MMSEG_VIT)
    if has(r'layers\.\d+\.attn\.qkv\.'):
        return 'ViT or DeiT of mmpretrain', state
    if is_of_transformers(state):
        return f'{"Swin" if has("encoder.layers.") else "ViT"} of transformers', _to_mmpretrain(to_official(state))[1]
    raise CheckpointError('neither a ViT nor a Swin of a known format; its names start with '
                          f'{some(".".join(key.split(".")[:3]) for key in state)}')


def _from_official_swin(state: Mapping[str, Tensor], downsample_starts_stage: bool) -> dict[str, Tensor]:
    result = {}
    for name, tensor in _number_last_norm(rename(state, _OFFICIAL_SWIN)).items():
        match = re.match(r'stages\.(\d+)\.(downsample\..*)', name)
        if match:
            name = f'stages.{int(match[1]) - downsample_starts_stage}.{match[2]}'
            if tensor.shape[-1] % 4 == 0 and re.search(r'\.(reduction|norm)\.', name):
                tensor = _to_unfold_order(tensor)
        result[name] = tensor
    return result


def _number_last_norm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """'norm' of official files and of early mmpretrain ones is the norm of the last stage."""
    last_stage = max(int(match[1]) for name in state if (match := re.match(r'stages\.(\d+)\.blocks\.', name)))
    return rename(state, ((r'^norm\.', f'norm{last_stage}.'), ))


def _to_unfold_order(tensor: Tensor) -> Tensor:
    """(..., 4C): from four pixels column by column, channels innermost, to channels outermost, pixels row by row."""
    return tensor.unflatten(-1, (2, 2, -1)).movedim(-1, -3).transpose(-1, -2).flatten(-3).contiguous()
