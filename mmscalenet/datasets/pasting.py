"""Single garments on photographs: what backbones for Fashion scenes are pretrained on."""
import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from mmscalenet.registry import TRANSFORMS

from .backgrounds import Backgrounds
from .garments import cut_out
from .scenes import draw_centre, place
from .writing import PARTS


@TRANSFORMS.register_module()
class PasteOnPhotograph(BaseTransform):
    """Makes an image of Fashion-MNIST look like a piece of a Fashion scene.

    The garment is cut out, turned, mirrored, tinted, resized to at least two thirds of the piece, and put on a piece of
    a photograph. It may reach over the border.

    Required keys: ``img`` (28, 28), ``gt_label``, ``sample_idx``. Changed: ``img`` (size, size, 3), BGR, uint8; added:
    ``img_shape``, ``ori_shape``. An image without a label, as inference gives it, is a piece already: it is resized.

    Args:
        size (int): Side of the piece, at least 28 pixels, that of Fashion-MNIST. Defaults to 64.
        split (str): 'train', or 'val' for parts of photographs that training does not see and, for each garment, always
            the same piece. Defaults to 'train'.
        scene_size (int): Side of the scene of which it is a piece. Defaults to 224.

    Raises:
        ValueError: If ``split`` is neither, or ``size`` is not from 28 to ``scene_size``.
        FileNotFoundError: If scikit-image or one of its photographs is missing.
    """
    SMALLEST = 2 / 3  # with smaller ones the small Swin still guessed after an epoch
    BACKGROUNDS = 100  # drawn once, as drawing takes longer than pasting

    def __init__(self, size: int = 64, split: str = 'train', scene_size: int = 224) -> None:
        if split not in PARTS:
            raise ValueError(f'split must be one of {", ".join(PARTS)}, got {split!r}')
        if not 28 <= size <= scene_size:
            raise ValueError(f'size must be from 28 to scene_size={scene_size}, got {size}')
        self.size, self.split, self.scene_size = size, split, scene_size
        backgrounds, rng = Backgrounds(split), np.random.default_rng(0)
        self.backgrounds = [backgrounds.sample(rng, scene_size)[0] for _ in range(self.BACKGROUNDS)]

    def transform(self, results: dict) -> dict:
        image = self._paste(results) if 'gt_label' in results else cv2.resize(results['img'], (self.size, self.size))
        results['img'] = image
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results

    def _paste(self, results: dict) -> np.ndarray:
        seed = results['sample_idx'] if self.split == 'val' else np.random.randint(2**31)
        rng = np.random.default_rng(seed)
        top, left = rng.integers(self.scene_size - self.size + 1, size=2)
        background = self.backgrounds[rng.integers(self.BACKGROUNDS)]
        image = background[top:top + self.size, left:left + self.size].copy()
        side = rng.uniform(self.SMALLEST, 1) * self.size
        garment = cut_out(results['img'], int(results['gt_label']))
        place(rng, garment, side, draw_centre(rng, side, self.size), self.size).blend_into(image)
        return image

    def __repr__(self) -> str:
        return f'{type(self).__name__}(size={self.size}, split={self.split!r}, scene_size={self.scene_size})'
