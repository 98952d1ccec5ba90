"""Strides that the heads of a detector are told, and those of the maps that they get."""
from collections.abc import Iterator

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from mmscalenet.models.necks import SimpleFeaturePyramid

from ..errors import UsageError

#: Of the maps of a SimpleFeaturePyramid, as a part of the size of a patch.
FINEST = 1 / 4


class DetectionStrideHook(Hook):
    """Refuse a pyramid on patches of a size for which the heads were not made.

    mmdet's heads take strides of 4 to 64, those of a pyramid on patches of 16. With others they look for boxes at
    other places than those at which the maps show them, and the AP stays at 0.
    """

    def before_train(self, runner: Runner) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        patch = getattr(getattr(getattr(model, 'backbone', None), 'patch_embed', None), 'projection', None)
        neck = getattr(model, 'neck', None)
        if not isinstance(patch, nn.Conv2d) or not isinstance(neck, SimpleFeaturePyramid):
            return
        made = [patch.stride[0] * FINEST * 2 ** level for level in range(neck.num_outs)]
        made = [int(stride) if stride == int(stride) else stride for stride in made]
        wrong = {name: made[:len(told)] for name, told in _told(model) if told != made[:len(told)]}
        if wrong:
            raise UsageError(
                f'of patches of {patch.stride[0]} pixels SimpleFeaturePyramid makes maps of stride '
                f'{", ".join(map(str, made))}, and the heads are told others: they would look for boxes at other '
                'places than those at which the maps show them. Set '
                + ', '.join(f'{name}={strides}' for name, strides in wrong.items()) + '.')


def _told(model: nn.Module) -> Iterator[tuple[str, list]]:
    """Names, as in a config, and strides of what is told them."""
    for name, module in model.named_modules():
        generator = getattr(module, 'prior_generator', None)
        if generator is not None and hasattr(generator, 'strides'):
            in_config = 'strides' if hasattr(module, 'strides') else 'anchor_generator.strides'
            yield f'model.{name}.{in_config}', [_side(stride) for stride in generator.strides]
        if hasattr(module, 'featmap_strides'):
            yield f'model.{name}.featmap_strides', list(module.featmap_strides)


def _side(stride: float | tuple[float, float]) -> float:
    return stride[0] if isinstance(stride, tuple) else stride
