"""Checkpoints of families without a format of their own: the file's names are the parent's, as strict as elsewhere.

Those of ConvNeXt and BEiT may be others (:mod:`.family_names`).
"""
import re
from collections.abc import Mapping

import torch.nn as nn
from torch import Tensor

from mmscalenet.expansion import position_lists
from mmscalenet.expansion.blocks import Split, kind_of

from .errors import CheckpointError, one_line, some
from .family_names import to_library
from .formats import BUFFERS, HEADS, PRETRAINING, USUAL_PREFIXES, state_dict_in, unwrap
from .layer_maps import check_layer_maps
from .report import Report
from .values import check_values

#: Tables that a model makes by itself, and what counts the steps of a batch norm.
_MADE = (*BUFFERS, 'relative_coords_table', 'num_batches_tracked', 'layer_map')
#: The norm of an output, which a model of other outputs does not have.
_OUTPUT_NORM = r'norm(\d+)\.'
#: Norms behind BEiT's blocks: one of all tokens, one of the mean of the patches, after which it has been fine-tuned.
_LAST_NORM, _MEAN_NORM = r'ln1\.', r'ln2\.'
#: One for all blocks, with which BEiT is pretrained; fine-tuned each has its own.
_SHARED_BIAS = 'rel_pos_bias.relative_position_bias_table'


def goes_by_names(backbone: nn.Module) -> bool:
    """Whether no format is known for the blocks of an expanded backbone. Of DeiT III they are those of DeiT."""
    blocks = [block for positions in position_lists(backbone).values() for block in positions.blocks]
    return not all(isinstance(kind_of(block), Split) or 'DeiT3' in type(block).__name__ for block in blocks)


def fit_by_names(backbone: nn.Module, checkpoint: Mapping, prefix: str | None) -> tuple[dict[str, Tensor], Report]:
    """The complete state to load and the report.

    Args:
        backbone (nn.Module): An expanded backbone; it is not changed.
        checkpoint (Mapping): What a file holds.
        prefix (str, optional): What the backbone's names start with.

    Returns:
        tuple[dict[str, Tensor], Report]: The state, and what is in it.

    Raises:
        CheckpointError: If the file is not of the parent, of this very net, or of another shape.
    """
    unwrap(checkpoint)  # says so where there are none
    # single numbers too: those that count the steps of a batch norm
    tensors = to_library(backbone, {
        key: value for key, value in state_dict_in(checkpoint).items() if isinstance(value, Tensor)})
    model = backbone.state_dict()
    start = _find_start(tensors, model, prefix)
    file = {key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)}
    ignored = [key for key in tensors if not key.startswith(start)]
    file, resized = _as_the_parent_takes_it(backbone, model, file)
    expanded = any('.positions.' in key for key in file)
    if expanded:
        check_layer_maps(backbone, file)
    else:
        file = _lay_out(backbone, file)
    missing, new = [], []
    last_norm = max((int(found[1]) for key in model if (found := re.match(_OUTPUT_NORM, key))), default=None)
    for key in model:
        if key in file or key.rpartition('.')[2] in _MADE:
            continue
        norm = re.match(_OUTPUT_NORM, key)  # a classifier's file has that of the last output alone
        is_new = ('.positions.' in key and not expanded or norm and int(norm[1]) != last_norm
                  or re.match(_MEAN_NORM, key))
        (new if is_new else missing).append(key)
    left = [key for key in file if key not in model and key.rpartition('.')[2] not in _MADE]
    beside = [key for key in left if re.match(f'{HEADS}|{PRETRAINING}|{_OUTPUT_NORM}|{_LAST_NORM}|{_MEAN_NORM}', key)]
    left = [key for key in left if key not in beside]
    if missing or left:
        raise CheckpointError('. '.join([f'the file lacks {some(missing)}'] * bool(missing)
                                        + [f'the model has no place for {some(left)}'] * bool(left))
                              + '. Of this family files with the names of the library itself are known')
    state = {key: value for key, value in file.items() if key in model}
    wrong = [f'{key} {tuple(value.shape)} in the file, {tuple(model[key].shape)} in the model'
             for key, value in state.items() if value.shape != model[key].shape]
    if wrong:
        raise CheckpointError(f'other shapes: {some(wrong, "; ")}. Give the model the sizes of the file')
    check_values(state, model)
    kind = f'{"expanded " * expanded}{type(backbone).__mro__[1].__name__} by its own names'
    own = {} if expanded else dict.fromkeys(key for key in new if '.norms.' in key)  # copied from the blocks
    return {**model, **state}, Report(kind, list(state), resized, [key for key in new if key not in own],
                                      [*ignored, *beside], start)


def _as_the_parent_takes_it(backbone: nn.Module, model: Mapping[str, Tensor],
                            file: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The file's tensors, those resized for which the parent knows how, and what was resized."""
    file = dict(file)
    if _SHARED_BIAS not in model and _SHARED_BIAS in file:
        table = file.pop(_SHARED_BIAS)
        blocks = {found[1] for key in file if (found := re.match(r'(layers\.\d+\.attn\.)', key))}
        file.update({f'{block}relative_position_bias_table': table for block in blocks})
    before = {key: value.shape for key, value in file.items()}
    try:
        for hook in backbone._load_state_dict_pre_hooks.values():
            hook(file, '', {}, True, [], [], [])
    except Exception as error:  # of what a file may hold instead
        raise CheckpointError(f'its sizes cannot be made those of the model: {one_line(error)}') from error
    return file, {key: f'{tuple(before[key])} to {tuple(value.shape)}' for key, value in file.items()
                  if key in before and value.shape != before[key]}


def _find_start(tensors: Mapping[str, Tensor], model: Mapping[str, Tensor], prefix: str | None) -> str:
    base = [key for key in model if '.positions.' not in key and key.rpartition('.')[2] not in _MADE]
    if prefix:
        starts = [prefix.rstrip('.') + '.']
    else:  # a first name of the model behind anything
        ends = dict.fromkeys(key[:-len(base[0])] for key in tensors if key.endswith(base[0]))
        starts = sorted(ends, key=lambda start: (start not in USUAL_PREFIXES, len(start)))
    starts = [start for start in starts if any(f'{start}{key}' in tensors for key in base)]
    if not starts:
        raise CheckpointError(f'none of the names of the model is in it, such as {base[0]}'
                              + f', behind prefix={prefix!r}' * bool(prefix)
                              + f'; its names start with {some(dict.fromkeys(key.split(".")[0] for key in tensors))}')
    if len(starts) > 1 and starts[0] not in USUAL_PREFIXES:
        raise CheckpointError(f'several backbones in it; say which with prefix: {some(map(repr, starts))}')
    return starts[0]


def _lay_out(backbone: nn.Module, file: dict[str, Tensor]) -> dict[str, Tensor]:
    """The blocks of a base for a model that holds a copy for every position."""
    for name, positions in position_lists(backbone).items():
        numbers = {key.removeprefix(f'{name}.').split('.')[0] for key in file if key.startswith(f'{name}.')}
        if not positions.share and numbers == set(map(str, range(positions.num_base))):
            file = {key: value for key, value in file.items() if not key.startswith(f'{name}.')} \
                | positions.lay_out(file, f'{name}.')
    return file
