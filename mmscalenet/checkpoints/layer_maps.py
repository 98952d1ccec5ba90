"""The layer map that an expanded file was trained with against that of the model."""
from collections.abc import Mapping

import torch.nn as nn
from torch import Tensor

from mmscalenet.expansion import position_lists

from .errors import CheckpointError


def check_layer_maps(backbone: nn.Module, file: Mapping[str, Tensor]) -> None:
    """Refuse what blocks that were trained in one order would compute in another.

    Args:
        backbone (nn.Module): An expanded backbone.
        file (Mapping): The tensors of an expanded file, by the names of the backbone. Where each block runs once, it
            keeps no map.

    Raises:
        CheckpointError: If a map of the file is not the model's.
    """
    for name, positions in position_lists(backbone).items():
        given = file.get(f'{name}.positions.layer_map')
        if given is None and not positions.share:
            continue
        trained = list(range(positions.num_base)) if given is None else given.tolist()
        if not positions.share:
            raise CheckpointError(f'the file was trained with layer_map={trained} in {name}, whose blocks are shared; '
                                  'give the model share=True')
        if trained != positions.layer_map:
            raise CheckpointError(f'the file was trained with layer_map={trained} in {name}, the model has '
                                  f'{positions.layer_map}; give the model the layer_map of the file')
