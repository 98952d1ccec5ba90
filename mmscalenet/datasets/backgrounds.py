"""Backgrounds: crops of photographs that come inside the scikit-image package, all CC0 or in the public domain.

What must differ between the splits are the pixels; what must be the same are the semantic classes. Both hold:

- Photographs that are a class (:data:`LABELLED`) are cut at 60 % of their width. Train takes its crops left of the cut
  and val right of it, so no pixel is in both and every class is.
- Others (:data:`UNLABELLED`) belong to one split alone and have no class: label 0. On val they show how a detector
  does on grounds it has never seen.
"""
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np

from .classes import STUFF

LABELLED = dict(zip(STUFF, ('brick.png', 'grass.png', 'gravel.png', 'coffee.png', 'chelsea.png',
                            'hubble_deep_field.jpg', 'retina.jpg'), strict=True))
UNLABELLED = dict(train=('moon.png', 'clock_motion.png'), val=('rocket.jpg', 'cell.png'))
CUT = 0.6


def photograph_folder() -> Path:
    """Where the photographs are; scikit-image itself is not imported.

    Raises:
        FileNotFoundError: If the package is not installed.
    """
    package = find_spec('skimage')
    if package is None:
        raise FileNotFoundError('the photographs of the backgrounds come with scikit-image, which is not installed: '
                                'pip install scikit-image')
    return Path(package.submodule_search_locations[0]) / 'data'


def read_photograph(name: str) -> np.ndarray:
    """Reads a photograph (H, W, 3), BGR, uint8.

    Raises:
        FileNotFoundError: If the installed scikit-image does not have it.
    """
    path = photograph_folder() / name
    image = cv2.imread(str(path))
    if image is None:
        raise FileNotFoundError(f'{path} is missing or damaged; it comes with scikit-image: '
                                'pip install --force-reinstall --no-deps scikit-image')
    return image


class Backgrounds:
    """The backgrounds of one split.

    Args:
        split (str): 'train' or 'val'.

    Raises:
        FileNotFoundError: If scikit-image or one of the photographs is missing.
    """

    def __init__(self, split: str) -> None:
        self.photographs = [(read_photograph(name), 0) for name in UNLABELLED[split]]
        for value, name in enumerate(LABELLED.values()):
            image = read_photograph(name)
            cut = round(CUT * image.shape[1])
            self.photographs.append((image[:, :cut] if split == 'train' else image[:, cut:], value + 1))

    def sample(self, rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Draws a background of one photograph, or of two on either side of a line.

        Returns:
            tuple: The image (size, size, 3), BGR, uint8, and what it shows (size, size), uint8: 0 unlabelled, i + 1
            for stuff i.
        """
        image, value = self._crop(rng, size)
        stuff = np.full((size, size), value, np.uint8)
        if rng.random() < 0.5:
            other, value = self._crop(rng, size)
            angle, offset = rng.uniform(0, 2 * np.pi), rng.uniform(-0.25, 0.25)
            y, x = np.mgrid[:size, :size] / size - 0.5
            beyond = x * np.cos(angle) + y * np.sin(angle) > offset
            image[beyond], stuff[beyond] = other[beyond], value
        return image, stuff

    def _crop(self, rng: np.random.Generator, size: int) -> tuple[np.ndarray, int]:
        photograph, value = self.photographs[rng.integers(len(self.photographs))]
        height, width = photograph.shape[:2]
        side = round(min(height, width) * rng.uniform(0.6, 1))
        top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
        crop = photograph[top:top + side, left:left + side]
        crop = cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA if side > size else cv2.INTER_CUBIC)
        if rng.random() < 0.5:
            crop = crop[:, ::-1]
        light = rng.uniform(0.7, 1.2) * rng.uniform(0.9, 1.1, 3)
        return np.clip(crop * light, 0, 255).astype(np.uint8), value
