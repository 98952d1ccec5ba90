"""A classification head from any file that a backbone is loaded from."""
from collections.abc import Mapping
from os import PathLike

import torch.nn as nn
from mmengine.logging import print_log
from mmengine.model import update_init_info
from torch import Tensor

from mmscalenet.registry import WEIGHT_INITIALIZERS

from .errors import CheckpointError
from .formats import unwrap
from .reading import read_checkpoint
from .values import check_values

#: A classifier's last layer in files: mmpretrain's ViT and DeiT; its Swin and timm's; official ones and timm's ViT;
#: transformers', and its DeiT with two heads.
_LAST = ('head.layers.head', 'head.fc', 'head', 'classifier', 'cls_classifier')
#: Layer of mmpretrain's heads -> its names in files.
_NAMES = {'layers.head': _LAST, 'fc': _LAST,
          'layers.head_dist': ('head.layers.head_dist', 'head_dist', 'distillation_classifier')}
#: A hidden layer before it.
_HIDDEN = ('head.layers.pre_logits', 'pre_logits.fc', 'layers.pre_logits')


@WEIGHT_INITIALIZERS.register_module()
class PretrainedHead:
    """In a head's ``init_cfg``: take its weights over from the file of a classifier, mmpretrain's, official, timm's or
    transformers'.

    mmengine's ``Pretrained`` knows mmpretrain's names alone; others end in an assertion or leave the head random.

    Args:
        checkpoint (str | PathLike): Path or URL of the file (see :func:`read_checkpoint`).
        trusted (bool): Whether the file may run code of its own. Defaults to False.

    Raises:
        CheckpointError: When called, if the file cannot be read, or holds no head or one of another shape.
    """

    def __init__(self, checkpoint: str | PathLike, trusted: bool = False) -> None:
        self.checkpoint = checkpoint
        self.trusted = trusted

    def __call__(self, module: nn.Module) -> None:
        content = read_checkpoint(self.checkpoint, self.trusted)
        try:
            state = _find_head(content, module.state_dict())
        except CheckpointError as error:
            raise CheckpointError(
                f'{self.checkpoint} does not fit {type(module).__name__}: {error}. Take the file of a classifier with '
                'as many classes, or start with a new head: --cfg-options model.head.init_cfg=None') from None
        module.load_state_dict(state)
        print_log(f'checkpoint {self.checkpoint}: head loaded', logger='current')
        if hasattr(module, '_params_init_info'):
            update_init_info(module, init_info=f'{type(self).__name__}: load from {self.checkpoint}')


def _find_head(content: Mapping, model: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The head in a file, under the names and in the shapes of the model's."""
    file = {name.removeprefix('module.'): value for name, value in unwrap(content).items()}
    for where, names in (('file', file), ('model', model)):
        if any(f'{name}.weight' in names for name in _HIDDEN):
            raise CheckpointError(f'the head of the {where} has a hidden layer, which mmpretrain starts anew after '
                                  'its init_cfg. Load it with load_from, after which nothing is initialised')
    state = {}
    for name, wanted in model.items():
        layer, _, kind = name.rpartition('.')
        names = [f'{known}.{kind}' for known in _NAMES.get(layer, (f'head.{layer}', ))]
        found = next((known for known in names if known in file), None)
        if found is None:
            raise CheckpointError(f'it has no {" or ".join(names)}')
        value = state[name] = file[found]
        if value.shape != wanted.shape:
            raise CheckpointError(f'{found} is {tuple(value.shape)} in the file, {tuple(wanted.shape)} in the model')
        check_values({found: value}, {found: wanted})
    return state
