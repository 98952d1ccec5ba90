"""What of a model can leave it as a graph: images in, tensors out."""
import torch
from torch import Tensor, nn

from mmscalenet.engine import UsageError

#: Base class of a model -> what of it is computed. Whatever else has a backbone gives that alone.
PARTS = {
    'BaseClassifier': 'the whole classifier, its logits before softmax',
    'BaseSegmentor': 'the whole segmentor, its logits at the size of the image',
    'BaseDetector': 'backbone and neck alone: proposals, boxes and masks are not in it',
}


class Computed(nn.Module):
    """The part of a model that is a function of images alone.

    Args:
        model (nn.Module): A classifier of mmpretrain, a segmentor of mmseg, a detector of mmdet, or any model with a
            backbone.
        backbone (bool): Only the backbone of it. Defaults to False.

    Attributes:
        part (str): In words, what of the model it is.

    Input: normalised images (B, C, H, W). Outputs: a tuple of tensors.

    Raises:
        UsageError: If the model has no backbone.
    """

    def __init__(self, model: nn.Module, backbone: bool = False) -> None:
        super().__init__()
        if not isinstance(getattr(model, 'backbone', None), nn.Module):
            raise UsageError(f'a {type(model).__name__} has no backbone, and only what builds on one can be taken out.')
        kinds = {cls.__name__ for cls in type(model).__mro__}
        self.kind = next((kind for kind in PARTS if kind in kinds and not backbone), None)
        self.part = PARTS.get(self.kind, 'the backbone alone')
        self.model = model if self.kind else model.backbone

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        if self.kind == 'BaseClassifier':
            outputs = self.model(images, mode='tensor')
        elif self.kind == 'BaseSegmentor':
            outputs = self.model.encode_decode(images, [dict(img_shape=images.shape[2:])])
        elif self.kind == 'BaseDetector':
            outputs = self.model.extract_feat(images)
        else:
            outputs = self.model(images)
        return tuple(_flat(outputs))

    def names(self, count: int) -> list[str]:
        """The names of so many outputs."""
        if count == 1:
            return ['feature' if self.kind in (None, 'BaseDetector') else 'logits']
        return [f'feature_{i}' for i in range(count)]


@torch.no_grad()
def run(computed: Computed, images: list[Tensor]) -> list[tuple[Tensor, ...]]:
    """The outputs for each batch of images.

    Raises:
        UsageError: If the model does not run at a size.
    """
    outputs = []
    for batch in images:
        try:
            outputs.append(computed(batch))
        except (RuntimeError, ValueError, AssertionError, TypeError) as error:
            raise UsageError(f'the model does not run on images of {"x".join(map(str, batch.shape))}: {error}. Give '
                             'another size with --shape.') from error
    return outputs


def difference(one: Tensor, other: Tensor) -> float:
    """The greatest difference of two tensors, as a part of the greatest value of the second where that is above 1;
    infinite where shapes differ or a value is no number."""
    if one.shape != other.shape:
        return float('inf')
    worst = ((one - other).abs().max() / other.abs().max().clamp(min=1)).item() if one.numel() else 0.
    return worst if worst == worst else float('inf')


def random_images(channels: int, shapes: list[tuple[int, int, int]]) -> list[Tensor]:
    """Batches of images, the same at each call.

    Args:
        channels (int): Their channels.
        shapes (list[tuple[int, int, int]]): Number, height and width of the images of each batch.
    """
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(batch, channels, *size, generator=generator) for batch, *size in shapes]


def _flat(outputs: object) -> list[Tensor]:
    if isinstance(outputs, Tensor):
        return [outputs]
    parts = outputs.values() if isinstance(outputs, dict) else outputs
    return [tensor for part in parts for tensor in _flat(part)]
