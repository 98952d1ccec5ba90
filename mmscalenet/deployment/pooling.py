"""Adaptive average pooling that exporters know, at any size."""
import torch
from torch import Tensor, nn


class ProductPool(nn.Module):
    """The means of ``nn.AdaptiveAvgPool2d`` as two matrix products, whose matrices follow from the size of the map.

    ONNX has no such pooling, and torch's exporter writes it only where the map is a multiple of the output: UperNet's
    pyramid of 1, 2, 3 and 6 on 16 x 16 is not.

    Args:
        output_size (tuple[int, int]): Rows and columns of the output.
    """

    def __init__(self, output_size: tuple[int, int]) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, rows, columns)."""
        rows, columns = (_means(size, count, x) for size, count in zip(x.shape[2:], self.output_size, strict=True))
        return rows @ x @ columns.transpose(0, 1)


def _means(size: int, count: int, x: Tensor) -> Tensor:
    """(count, size): which of the elements each of the means is over, with their weights."""
    place, number = torch.arange(size, device=x.device), torch.arange(count, device=x.device)[:, None]
    inside = (place >= number * size // count) & (place < ((number + 1) * size + count - 1) // count)
    weights = inside.to(x.dtype)
    return weights / weights.sum(1, keepdim=True)


def replace_pooling(model: nn.Module) -> None:
    """Put it in the place of each adaptive average pooling of a model to more than one element."""
    for module in list(model.modules()):
        for name, part in module.named_children():
            if type(part) is nn.AdaptiveAvgPool2d and part.output_size not in (1, (1, 1)):
                size = part.output_size
                if isinstance(size, int) or None not in size:
                    setattr(module, name, ProductPool((size, size) if isinstance(size, int) else tuple(size)))
