"""Write the ViT, DeiT or Swin of any checkpoint that mmscalenet recognises under the names of an OpenMMLab library."""
import argparse
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from mmscalenet.checkpoints import CheckpointError, convert, read_checkpoint, to_mmseg
from mmscalenet.checkpoints.errors import some
from mmscalenet.checkpoints.formats import PRETRAINING
from mmscalenet.checkpoints.values import check_values
from mmscalenet.engine import whole_file

#: What a ViT, a DeiT or a Swin of the libraries has, under mmpretrain's names, and what a grown one has beside it.
_NAMES = r"""
    cls_token | dist_token | register_tokens | pos_embed | absolute_pos_embed
    | (patch_embed\.(projection|norm) | pre_norm | ln[12] | norm\d)\.\w+
    | layers\.\d+\.(ln[12] | attn\.(qkv | proj | gamma1) | ffn\.(layers\.(0\.0 | 1) | w12 | w3 | gamma2))\.\w+
    | stages\.\d\.blocks\.\d+\.(norm[12] | attn\.w_msa(\.qkv | \.proj)? | ffn\.layers\.(0\.0 | 1))\.\w+
    | stages\.\d\.downsample\.(norm | reduction)\.\w+
    | (layers | stages\.\d\.blocks)\.(positions\..+ | inject)
"""


def convert_backbone(checkpoint: Mapping, to: str = 'mmpretrain') -> dict[str, Tensor]:
    """The backbone's tensors under the names of a library.

    Args:
        checkpoint (Mapping): What the source file holds.
        to (str): 'mmpretrain', 'mmdet' or 'mmseg'; they differ for a ViT only. Defaults to 'mmpretrain'.

    Returns:
        dict[str, Tensor]: The state dict of the backbone.

    Raises:
        CheckpointError: If no backbone of a known format is in it, or that has tensors which none of the libraries'
            has, or NaN.
    """
    state = {name: value for name, value in convert(checkpoint).state.items() if not re.match(PRETRAINING, name)}
    if unknown := [name for name in state if not re.fullmatch(_NAMES, name, re.VERBOSE)]:
        raise CheckpointError(f'no ViT, DeiT or Swin of the libraries has {some(unknown)}')
    check_values(state, state)
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
