"""ONNX files of models, each compared with PyTorch before it gets its name."""
import inspect
import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from mmscalenet.engine import UsageError, whole_file
from mmscalenet.engine.depth import expanded_backbones
from mmscalenet.models.layers import WindowedTokens

from .computed import Computed, difference, random_images, run
from .pooling import replace_pooling

OPSET = 17
#: The greatest difference from PyTorch that a file may show, see ``difference``.
TOLERANCE = 1e-4
#: Bytes of weights in a file; a protobuf has 2**31 at most, the graph included.
LARGEST = 2 * 10**9


@dataclass
class Written:
    """What is in a file: its tensors as (name, type, shape), and how far it was from PyTorch at each size."""
    inputs: list[tuple[str, str, list]]
    outputs: list[tuple[str, str, list]]
    differences: dict[str, float]


def write_onnx(computed: Computed, path: str | os.PathLike, channels: int, shape: tuple[int, int], batch: int = 1,
               dynamic: bool = False) -> Written:
    """Write what a model computes as an ONNX file, which appears only if ONNX Runtime computes the same from it.

    Grown backbones are unrolled for it, in place (see :meth:`mmscalenet.Expanded.switch_to_deploy`); the reference is
    what they computed before.

    Args:
        computed (Computed): The part of a model to write.
        path (str | os.PathLike): The file.
        channels (int): Channels of the images.
        shape (tuple[int, int]): Their height and width.
        batch (int): How many in a batch. Defaults to 1.
        dynamic (bool): Whether the file takes any batch, height and width; the latter as multiples of the patch. It
            is then compared at other ones, too. Defaults to False.

    Raises:
        UsageError: If onnx or onnxruntime is missing, or the model cannot be exported so, or the file computes
            something else. Nothing is written then.
    """
    require_onnx()
    if dynamic and (fixed := fixes_sizes(computed)):
        raise UsageError(f'dynamic sizes are not possible here: {fixed} cuts maps into windows, whose number a trace '
                         'fixes. Leave --dynamic out, and write one file for each --shape and --batch-size.')
    step = patch_size(computed)
    height, width = shape
    shapes = [(batch, height, width)]
    if dynamic:
        # Traced at a size that is not the model's own, and so not square: there, a position table is used as it is.
        wider = width + (2 if height != width + step else 3) * step
        shapes = [(2, height + step, wider), (1, height, width), (3, height + 2 * step, width + step)]
    images = random_images(channels, shapes)
    expected = run(computed, images)
    for backbone in expanded_backbones(computed).values():
        backbone.switch_to_deploy()
    size = sum(tensor.numel() * tensor.element_size() for tensor in computed.state_dict().values())
    if size > LARGEST:
        raise UsageError(f'no file is written: the weights take {size / 1e9:.1f} GB once every position has its own, '
                         f'and an ONNX file holds {LARGEST / 1e9:g} GB. Give a smaller --depth or model.')
    replace_pooling(computed)
    names = computed.names(len(expected[0]))
    axes = dynamic_axes(names, expected) if dynamic else {}
    with whole_file(path) as temporary:
        _export(computed, images[0], temporary, names, axes)
        _name_fixed_sizes(temporary, axes, expected[0])
        session = _session(temporary)
        differences = compare(session, images, expected)
        return Written(*([(value.name, value.type, value.shape) for value in values]
                         for values in (session.get_inputs(), session.get_outputs())), differences)


def require_onnx() -> None:
    """Raise a UsageError where onnx or onnxruntime cannot be imported."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise UsageError(f'{error.name} is missing: pip install onnx onnxruntime (Python 3.11 or later). Every file is '
                         'compared with PyTorch in ONNX Runtime before it is left on disk.') from error


def fixes_sizes(model: nn.Module) -> str | None:
    """The class of the attention within windows that a model has, if any."""
    return next((type(module).__name__ for module in model.modules()
                 if isinstance(module, WindowedTokens) or hasattr(module, 'shift_size')), None)


def patch_size(model: nn.Module) -> int:
    """By what heights and widths are to be divisible: the stride of the patches, or 32 where there are none."""
    for module in model.modules():
        projection = getattr(getattr(module, 'patch_embed', None), 'projection', None)
        if isinstance(projection, nn.Conv2d):
            return max(projection.stride)
    return 32


def dynamic_axes(names: list[str], outputs: list[tuple[Tensor, ...]]) -> dict[str, dict[int, str]]:
    """Which axes of image and outputs have no fixed size: those that differ between sizes."""
    axes = {'image': {0: 'batch', 2: 'height', 3: 'width'}}
    for name, *tensors in zip(names, *outputs, strict=True):
        differ = [dim for dim, sizes in enumerate(zip(*(tensor.shape for tensor in tensors), strict=True))
                  if len(set(sizes)) > 1]
        axes[name] = {dim: f'{name}_{dim}' if dim else 'batch' for dim in differ}
    return axes


def compare(session, images: list[Tensor], expected: list[tuple[Tensor, ...]]) -> dict[str, float]:
    """The greatest difference at each size of images.

    Raises:
        UsageError: If one is above ``TOLERANCE``, or ONNX Runtime fails at a size.
    """
    differences = {}
    for batch, outputs in zip(images, expected, strict=True):
        size = 'x'.join(map(str, batch.shape))
        try:
            computed = session.run(None, {'image': batch.numpy()})
        except Exception as error:  # its errors have no common class of their own
            raise UsageError(f'no file is written: ONNX Runtime fails on images of {size}: {error}') from error
        differences[size] = max(difference(torch.from_numpy(one), other)
                                for one, other in zip(computed, outputs, strict=True))
        if differences[size] > TOLERANCE:
            raise UsageError(f'no file is written: on images of {size} ONNX Runtime and PyTorch differ by '
                             f'{differences[size]:.1e}, and {TOLERANCE:.0e} is allowed.')
    return differences


def _export(computed: Computed, images: Tensor, path: Path, names: list[str], axes: dict) -> None:
    # The exporter that traces: the newer one needs one package more. Older torch has no other.
    older = dict(dynamo=False) if 'dynamo' in inspect.signature(torch.onnx.export).parameters else {}
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of what the trace fixes, which the comparison finds where it matters
        try:
            torch.onnx.export(computed, (images, ), str(path), input_names=['image'], output_names=names,
                              dynamic_axes=axes, opset_version=OPSET, **older)
        except Exception as error:  # of any kind
            raise UsageError(f'no file is written: torch cannot export this model: {error}') from error


def _name_fixed_sizes(path: Path, axes: dict, outputs: tuple[Tensor, ...]) -> None:
    """Write the sizes of outputs that do not change into a file, where torch did not know them."""
    import onnx

    content = onnx.load(path)
    for value, tensor in zip(content.graph.output, outputs, strict=True):
        for dim, size in enumerate(tensor.shape):
            if dim not in axes.get(value.name, {}):
                value.type.tensor_type.shape.dim[dim].dim_value = size
    onnx.save(content, path)


def _session(path: Path):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what fails is raised
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])
    except Exception as error:
        raise UsageError(f'no file is written: ONNX Runtime cannot load what torch exported: {error}') from error
