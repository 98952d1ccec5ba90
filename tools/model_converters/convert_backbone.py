"""Write the backbone of any checkpoint that mmscalenet recognises under the names of an OpenMMLab library."""
import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from mmscalenet.checkpoints import CheckpointError, convert, read_checkpoint, to_mmseg
from mmscalenet.engine import whole_file


def convert_backbone(checkpoint: Mapping, to: str = 'mmpretrain') -> dict[str, Tensor]:
    """The backbone's tensors under the names of a library.

    Args:
        checkpoint (Mapping): What the source file holds.
        to (str): 'mmpretrain', 'mmdet' or 'mmseg'; they differ for a ViT only. Defaults to 'mmpretrain'.

    Returns:
        dict[str, Tensor]: The state dict of the backbone.

    Raises:
        CheckpointError: If no backbone of a known format is in it.
    """
    state = convert(checkpoint).state
    return to_mmseg(state) if to == 'mmseg' else state


def main(src: str, dst: str, to: str = 'mmpretrain', trusted: bool = False) -> None:
    """Convert a file; ``dst`` appears when it is whole.

    Args:
        src (str): Path or URL of the source.
        dst (str): Path of the file to write, which must not exist.
        to (str): Library whose names to write. Defaults to 'mmpretrain'.
        trusted (bool): Whether the source may run code of its own. Defaults to False.

    Raises:
        CheckpointError: If the source cannot be read or converted.
        OSError: If ``dst`` exists or cannot be written.
    """
    target = Path(dst)
    if target.exists():
        raise FileExistsError(f'{dst}: exists already; remove it or name another file')
    try:
        state = convert_backbone(read_checkpoint(src, trusted), to)
    except CheckpointError as error:
        raise CheckpointError(str(error) if src in str(error) else f'{src}: {error}') from None
    with whole_file(target) as temporary:
        # cloned: a view would be saved with all of its storage
        torch.save({'state_dict': {name: tensor.clone() for name, tensor in state.items()}}, temporary)
    print(f'{dst}: {len(state)} tensors of the backbone in {src}, under the names of {to}')


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('src', help='checkpoint of a backbone, classifier, detector or segmentor, path or URL')
    parser.add_argument('dst', help='file to write')
    parser.add_argument('--to', choices=('mmpretrain', 'mmdet', 'mmseg'), default='mmpretrain',
                        help='library whose names to write (default: %(default)s)')
    parser.add_argument('--trusted', action='store_true', help='the source may run code: only if you trust its origin')
    args = parser.parse_args()
    try:
        main(**vars(args))
    except (CheckpointError, OSError) as error:
        sys.exit(f'convert_backbone: {error}')
