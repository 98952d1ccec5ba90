"""Load a checkpoint of any known format into a backbone: everything is checked before anything is copied."""
import re
from collections.abc import Iterable, Mapping
from os import PathLike

import torch.nn as nn
from mmengine.logging import print_log
from torch import Tensor

from mmscalenet.expansion import position_lists

from .by_names import fit_by_names, goes_by_names
from .errors import CheckpointError, some
from .formats import BUFFERS, PRETRAINING, Source, convert, is_swin, to_mmseg
from .growth_notes import depth_noted, is_before_growth
from .layer_maps import check_layer_maps
from .reading import read_checkpoint
from .renaming import without_wrappers
from .report import Report
from .resizing import resize, with_token_rows
from .values import check_values

#: Name of a tensor -> the argument that makes room for it in the model, the one that makes the model do without it.
_ARGUMENTS = (
    (r'dist_token$', "base='mmpretrain.DistilledVisionTransformer'", 'base without distillation, e.g. '
     "'mmpretrain.VisionTransformer'"),
    (r'register_tokens$', 'num_register_tokens=4, or as many as it has, of ScaleNetDeiT', 'num_register_tokens=0'),
    (r'cls_token$', '', 'with_cls_token=False'),
    (r'patch_embed\.projection\.bias$', 'patch_bias=True', 'patch_bias=False'),
    (r'patch_embed\.norm\.', 'patch_norm=True', 'patch_norm=False'),
    (r'(pre_norm|ln_pre)\.', 'pre_norm=True', 'pre_norm=False'),
    (r'ln1\.', 'final_norm=True', 'final_norm=False'),
    (r'absolute_pos_embed$', 'use_abs_pos_embed=True', 'use_abs_pos_embed=False'),
    (r'.*\.gamma[12]\.', 'layer_scale_init_value=1e-5', 'layer_scale_init_value=0'),
    (r'.*\.ffn\.w(12|3)\.', "layer_cfgs=dict(ffn_type='swiglu_fused')", "layer_cfgs=dict(ffn_type='origin')"),
    (r'.*\.(qkv\.bias|in_proj_bias)$', 'qkv_bias=True', 'qkv_bias=False'),
    (r'.*\.positions\.', 'the adapter, gate, inject and unshare of the file',
     'the adapter, gate, inject and unshare of the file'),
)
#: Norms behind the blocks: a model need not have those of the file, and files lack those of other outputs.
_FINAL_NORMS = r'(ln[12]|norm\d+)\.'
_OUTPUT_NORMS = r'(ln2|norm\d+)\.'


def load_pretrained(backbone: nn.Module, checkpoint: str | PathLike | Mapping, prefix: str | None = None,
                    trusted: bool = False) -> Report:
    """Load pretrained weights into a backbone, expanded or not, and log what was done.

    Takes, by recognising the file: the ViT, DeiT and Swin of mmpretrain, official DeiT and timm, official Swin and
    timm's, the Swin of mmdet and mmseg, mmseg's ViT, DINOv2 with and without register tokens, the ViT, DeiT, DINOv2 and
    Swin of transformers, a whole classifier, detector or segmentor of these, and the checkpoint of an expanded backbone
    of the same shape. Of other families: files with the names of their library.

    Args:
        backbone (nn.Module): The backbone; it is changed in place, and only if the whole checkpoint fits. What its
            positions own starts anew if the checkpoint is one of a base.
        checkpoint (str | PathLike | Mapping): Path or URL of the file (see :func:`read_checkpoint`), or what it holds.
        prefix (str, optional): What the names of the backbone start with. Defaults to None: it is found.
        trusted (bool): Whether the file may run code of its own. Defaults to False.

    Returns:
        Report: What was loaded, resized, newly initialised and ignored.

    Raises:
        CheckpointError: If the file cannot be read or does not fit. The backbone is then as it was.
    """
    if isinstance(checkpoint, Mapping):
        return load_content(backbone, checkpoint, 'given as a dict', prefix)
    return load_content(backbone, read_checkpoint(checkpoint, trusted), str(checkpoint), prefix)


def load_content(backbone: nn.Module, content: Mapping, name: str, prefix: str | None = None) -> Report:
    """Do what :func:`load_pretrained` does, with what a file holds and the name that it goes by in messages."""
    try:
        if goes_by_names(backbone):
            state, report = fit_by_names(backbone, content, prefix)
        else:
            source = convert(content, prefix)
            state, report = _fit(backbone, source)
            report.source, report.prefix = source.name, source.prefix
    except CheckpointError as error:
        raise CheckpointError(f'{name} does not fit {type(backbone).__name__}: {error}') from None
    report.source = f'{name}, {report.source}'
    # complete, as checked; but some parents take tables out of what they are given, and make them themselves
    backbone.load_state_dict(state, strict=not goes_by_names(backbone))
    lists = position_lists(backbone).values()
    if not any(_is_own(key) for key in report.loaded):
        for positions in lists:
            positions.reset_positions()
    if _start_untrained(list(lists), content, report.prefix):
        print_log(f'{name} was written before its net grew: what its added positions own starts from the blocks',
                  logger='current')
    print_log(str(report), logger='current')
    return report


def _start_untrained(lists: list[nn.Module], content: Mapping, prefix: str) -> bool:
    """What added positions own that never ran has not been trained, and is none of the blocks'."""
    depths = depth_noted(content, without_wrappers(prefix).rstrip('.'))
    if is_before_growth(content):
        depths = [positions.num_base for positions in lists]
    if depths is None or len(depths) != len(lists):
        return False
    return any([positions.start_added(depth) for positions, depth in zip(lists, depths, strict=True)])


def _fit(backbone: nn.Module, source: Source) -> tuple[dict[str, Tensor], Report]:
    """The complete state to load and the report; raises before anything is changed."""
    model = backbone.state_dict()
    is_mmseg_vit = any(name.endswith('.attn.attn.in_proj_weight') for name in model)
    file = to_mmseg(source.state) if is_mmseg_vit else source.state
    _check_family_and_width(model, file)
    file, dropped = _drop_token(model, file)
    file = _match_blocks(backbone, model, file)

    new, ignored = _check_names(model, file)
    report = Report('', [name for name in file if name in model], newly_initialised=new,
                    ignored=[*source.ignored, *dropped, *ignored])
    state, wrong = {}, []
    for name in report.loaded:
        value, wanted = file[name], model[name]
        if value.shape != wanted.shape and (resized := resize(name, value, wanted, backbone)):
            value, note = resized
            report.resized.update({name: note} if note else {})
        if value.shape != wanted.shape:
            wrong.append(f'{name} {tuple(value.shape)} in the file, {tuple(wanted.shape)} in the model')
        state[name] = value
    if wrong:
        raise CheckpointError(f'other shapes: {some(wrong, "; ")}. Give the model the sizes of the file')
    check_values(state, model)
    return {**model, **state}, report


def _check_family_and_width(model: Mapping[str, Tensor], file: Mapping[str, Tensor]) -> None:
    stem = 'patch_embed.projection.weight'
    if stem not in model or not _blocks(model):
        raise CheckpointError('the model is neither a ViT, DeiT nor Swin, and checkpoints are known for these alone')
    families = ['Swin' if is_swin(names) else 'ViT or DeiT' for names in (file, model)]
    if families[0] != families[1]:
        raise CheckpointError(f'the file holds a {families[0]}, the model is a {families[1]}; take a checkpoint of '
                              "the model's family")
    if stem not in file:
        raise CheckpointError('its patch embedding has the name that official and timm files give it, its blocks have '
                              f'not: it is of another family; its names start with {some(file)}')
    widths = [len(names[stem]) for names in (file, model)]
    if widths[0] != widths[1]:
        raise CheckpointError(f'the file has embed_dims={widths[0]}, the model embed_dims={widths[1]}; they must agree')


def _drop_token(model: Mapping[str, Tensor], file: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The file without its class token for a model that was built without one, as for dense prediction."""
    names = ('cls_token', 'pos_embed')
    if 'cls_token' in model or 'dist_token' in file or not all(name in file and file[name].dim() == 3
                                                               for name in names):
        return dict(file), []
    kept = {name: value for name, value in file.items() if name != 'cls_token'}
    patches = model['pos_embed'].shape[1] if 'pos_embed' in model else 0
    return {**kept, 'pos_embed': with_token_rows(file['pos_embed'], 1, patches)[:, 1:]}, ['cls_token']


def _match_blocks(backbone: nn.Module, model: Mapping[str, Tensor], file: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Check the depth, and lay the blocks of a base out for a model that holds a copy for every position."""
    lists = position_lists(backbone)
    have, wanted = _blocks(file), _blocks(model)
    base = {**wanted, **{name: positions.num_base for name, positions in lists.items()}}
    if any(_is_own(name) for name in file):
        have_positions, wanted_positions = (_blocks(names, r'positions\.') for names in (file, model))
        if (have, have_positions) != (wanted, wanted_positions):
            raise CheckpointError(
                f'the file is an expanded ScaleNet of other shape: {_depth(have)} blocks at '
                f'{_depth(have_positions) or "none"} positions, the model has {_depth(wanted)} at '
                f'{_depth(wanted_positions) or "none"}; give the model the scale, share, adapter and gate of the file, '
                'or take the checkpoint of a base')
        check_layer_maps(backbone, file)
        return {name: value for name, value in file.items() if name in model or not name.endswith('.layer_map')}
    if have not in (base, wanted):
        raise CheckpointError(
            f'the file has {_depth(have)} blocks, the base of the model has {_depth(base)}; build the model on a base '
            f'of depth {_depth(have)} (`scale` grows it from there), or take a checkpoint of depth {_depth(base)}'
            + (', or, as the file looks like one grown without sharing, give share=False and its scale (one written '
               'after switch_to_deploy fits no config: take the checkpoint from before)'
               if _is_multiple(have, base) else ''))
    if have == wanted:
        return dict(file)
    result = {name: value for name, value in file.items() if _block_name(name) is None}
    for list_name, positions in lists.items():
        result.update(positions.lay_out(file, f'{list_name}.'))
    return result


def _check_names(model: Mapping[str, Tensor], file: Mapping[str, Tensor]) -> tuple[list[str], list[str]]:
    """Names of the model that are newly initialised, and names of the file that are ignored; raises for all others."""
    expanded = any(_is_own(name) for name in file)
    last_norm = f'norm{len(_blocks(model)) - 1}.'
    new, missing = [], []
    for name in model:
        if name in file or name.rpartition('.')[2] in BUFFERS:
            continue
        if _is_own(name) and not expanded:
            # the map is the model's, the norms are copied from the blocks
            if not re.search(r'\.positions\.(layer_map|\d+\.norm[12]\.)', name):
                new.append(name)
        elif name.endswith('.inject'):  # 0 at the start, with which nothing changes
            new.append(name)
        elif re.match(_OUTPUT_NORMS, name) and not name.startswith(last_norm):
            new.append(name)
        else:
            missing.append(name)
    leftover = [name for name in file if name not in model]
    ignored = [name for name in leftover if re.match(f'{_FINAL_NORMS}|{PRETRAINING}', name)]
    leftover = [name for name in leftover if name not in ignored]
    if missing or leftover:
        raise CheckpointError('. '.join(
            [f'the file lacks {some(missing)}{_advice(missing, 2)}'] * bool(missing)
            + [f'the model has no place for {some(leftover)}{_advice(leftover, 1)}'] * bool(leftover)))
    return new, ignored


def _advice(names: Iterable[str], column: int) -> str:
    rows = [row for name in names for row in _ARGUMENTS if re.match(row[0], name) and row[column]]
    arguments = dict.fromkeys(row[column] for row in rows)
    return f' (give the backbone {", ".join(arguments)})' if arguments else ''


def _is_own(name: str) -> bool:
    """Whether a position owns the tensor."""
    return '.positions.' in name


def _block_name(name: str, inner: str = '') -> re.Match | None:
    return re.match(rf'(layers|stages\.\d+\.blocks)\.{inner}(\d+)\.', name)


def _blocks(names: Iterable[str], inner: str = '') -> dict[str, int]:
    """Number of blocks, or with ``inner`` of positions, in each list."""
    found: dict[str, set] = {}
    for name in names:
        if match := _block_name(name, inner):
            found.setdefault(match[1], set()).add(int(match[2]))
    return {name: len(numbers) for name, numbers in sorted(found.items())}


def _depth(blocks: Mapping[str, int]) -> str:
    return '-'.join(map(str, blocks.values()))


def _is_multiple(have: Mapping[str, int], base: Mapping[str, int]) -> bool:
    return have.keys() == base.keys() and all(have[k] > base[k] and have[k] % base[k] == 0 for k in base)
