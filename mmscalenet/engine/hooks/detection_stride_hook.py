"""Strides that the heads of a detector are told, and those of the maps that they get."""
from collections.abc import Iterator

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from mmscalenet.models.necks import SimpleFeaturePyramid

from ..errors import UsageError
from ..model_of import model_of

#: Stride of a SimpleFeaturePyramid's first map, as a part of the size of a patch.
FINEST = 1 / 4
#: Attributes of a head that keep its strides, and how a config calls them.
STRIDES = {'strides': 'strides', 'point_strides': 'point_strides',
           'prior_generator.strides': 'anchor_generator.strides'}


class DetectionStrideHook(Hook):
    """Refuse a pyramid on patches of a size for which the heads were not made.

    mmdet's heads take strides of 4 to 64, those of a pyramid on patches of 16. With others they look for boxes at
    other places than those at which the maps show them, and the AP stays at 0. Looked at are the heads and extractors
    of boxes, and the extractors of masks, of every detector in the model on a plain transformer.
    """

    def before_train(self, runner: Runner) -> None:
        model = model_of(runner)
        check_strides(model)


def check_strides(model: nn.Module) -> None:
    """Check every detector that a model is or holds.

    Raises:
        UsageError: If the heads of one are told other strides than its maps have.
    """
    for name, detector in model.named_modules():
        _check(f'{name}.' if name else '', detector)


def _check(prefix: str, detector: nn.Module) -> None:
    backbone, neck = getattr(detector, 'backbone', None), getattr(detector, 'neck', None)
    patches = getattr(getattr(backbone, 'patch_embed', None), 'projection', None)
    parts = neck.modules() if isinstance(neck, nn.Module) else ()
    pyramid = next((part for part in parts if isinstance(part, SimpleFeaturePyramid)), None)
    if not isinstance(patches, nn.Conv2d) or pyramid is None or hasattr(backbone, 'stages'):
        return
    size = patches.stride[0]
    made = [size * FINEST * 2 ** level for level in range(pyramid.num_outs)]
    made = [int(stride) if stride == int(stride) else stride for stride in made]
    wrong = {name: made[:len(told)] for name, told in _told(detector) if told != made[:len(told)]}
    if wrong:
        raise UsageError(
            f'of patches of {size} pixels SimpleFeaturePyramid makes maps of stride {", ".join(map(str, made))}, and '
            'the heads are told others: they would look for boxes at other places than those at which the maps show '
            'them. Set ' + ', '.join(f'model.{prefix}{name}={strides}' for name, strides in wrong.items()) + '.')


def _told(detector: nn.Module) -> Iterator[tuple[str, list]]:
    """Names, as in a config, and strides of what is told them."""
    for name in ('rpn_head', 'bbox_head'):
        head = getattr(detector, name, None)
        for path, in_config in STRIDES.items():
            strides = head
            for part in path.split('.'):
                strides = getattr(strides, part, None)
            if strides is not None:
                yield f'{name}.{in_config}', [stride[0] if isinstance(stride, tuple) else stride for stride in strides]
                break
    for name in ('bbox_roi_extractor', 'mask_roi_extractor'):
        extractors = getattr(getattr(detector, 'roi_head', None), name, None)
        several = isinstance(extractors, nn.ModuleList)
        for number, extractor in enumerate(extractors if several else [extractors]):
            if hasattr(extractor, 'featmap_strides'):
                place = f'{name}.{number}' if several else name
                yield f'roi_head.{place}.featmap_strides', list(extractor.featmap_strides)
