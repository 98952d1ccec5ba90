"""Garments of Fashion-MNIST (https://github.com/zalandoresearch/fashion-mnist), cut out of their black ground."""
import gzip
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from .classes import GARMENTS

#: Grey values up to here are ground. At 1 a fringe of noise is left, at 30 dark clothes break up.
GROUND = 10
#: Smaller parts (8-connected) are specks, not clothes.
MIN_PART = 6
#: Holes up to this many pixels are filled in the classes that are open by nature, all holes in the others.
SMALL_HOLE = 4
OPEN_CLASSES = {GARMENTS.index(name) for name in ('bag', 'sandal', 'trouser')}
#: Ninety-nine of a hundred garments touch the border of their image; without a margin a resized one has a cut edge.
MARGIN = 4


@dataclass(frozen=True)
class Garment:
    """One cut-out.

    Args:
        grey (np.ndarray): Grey values (H, W), uint8, continued outwards beyond the mask.
        mask (np.ndarray): Which pixels are cloth (H, W), bool.
        label (int): Index in :data:`~mmscalenet.datasets.classes.GARMENTS`.
    """
    grey: np.ndarray
    mask: np.ndarray
    label: int


def garment_mask(image: np.ndarray, label: int) -> np.ndarray:
    """Tells cloth from ground.

    Args:
        image (np.ndarray): Grey values (H, W), uint8.
        label (int): The class, which says what a hole means.

    Returns:
        np.ndarray: (H, W), bool.
    """
    mask = np.pad(image > GROUND, 1)  # the margin joins all ground that reaches the border
    mask &= ~_small_parts(mask, connectivity=8, below=MIN_PART)
    largest_hole = SMALL_HOLE if label in OPEN_CLASSES else image.size
    mask |= _small_parts(~mask, connectivity=4, below=largest_hole + 1, keep=(0, 0))
    return mask[1:-1, 1:-1]


def _small_parts(mask: np.ndarray, connectivity: int, below: int, keep: tuple[int, int] | None = None) -> np.ndarray:
    """The parts of ``mask`` with fewer than ``below`` pixels, except the one at pixel ``keep``."""
    _, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=connectivity)
    small = stats[:, cv2.CC_STAT_AREA] < below
    small[0] = False  # what is not in the mask
    if keep is not None:
        small[parts[keep]] = False
    return small[parts]


def cut_out(image: np.ndarray, label: int) -> Garment:
    """Cuts one garment (H, W) out, with a margin into which its grey values are spread.

    At its edge a garment is mixed with the black ground twice: in the data, so edge pixels get the brightest value
    around them; and by interpolation, so every pixel outside the mask gets the value of the nearest one inside.
    """
    image, mask = np.pad(image, MARGIN), np.pad(garment_mask(image, label), MARGIN)
    if mask.any():
        edge = mask & (cv2.erode(mask.astype(np.uint8), np.ones((3, 3))) == 0)
        image = np.where(edge, cv2.dilate(image, np.ones((3, 3))), image)
        outside = (~mask).astype(np.uint8)
        _, nearest = cv2.distanceTransformWithLabels(outside, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
        values = np.zeros(nearest.max() + 1, np.uint8)
        values[nearest[mask]] = image[mask]
        image = values[nearest]
    return Garment(image, mask, int(label))


def read_idx(path: Path) -> np.ndarray:
    """Reads an IDX file of bytes, plain or gzip.

    Raises:
        FileNotFoundError: If it is not there.
        ValueError: If it is another kind of file or not whole.
    """
    data = path.read_bytes()
    try:
        data = gzip.decompress(data) if data[:2] == b'\x1f\x8b' else data
    except (OSError, EOFError) as error:
        raise ValueError(f'{path} is a damaged gzip file: {error}') from error
    if data[:3] != b'\0\0\x08' or len(data) < 4 + 4 * data[3]:
        raise ValueError(f'{path} is no IDX file of bytes: it starts with {data[:4]!r}')
    shape = np.frombuffer(data, '>u4', data[3], 4)
    values = np.frombuffer(data, np.uint8, offset=4 + 4 * data[3])
    if values.size != shape.prod(dtype=np.int64):
        raise ValueError(f'{path} has {values.size} values, and its header says {" x ".join(map(str, shape))}')
    return values.reshape(shape)


class Garments:
    """The garments of one part of Fashion-MNIST, cut out when asked for.

    Args:
        folder (str | Path): Holds ``{part}-images-idx3-ubyte`` and ``{part}-labels-idx1-ubyte``.
        part (str): 'train' or 't10k'.

    Raises:
        FileNotFoundError: If a file is not there.
        ValueError: If a file is damaged, or the two do not belong together.
    """

    def __init__(self, folder: str | Path, part: str) -> None:
        path = Path(folder) / f'{part}-images-idx3-ubyte'
        self.images = read_idx(path)
        self.labels = read_idx(path.with_name(f'{part}-labels-idx1-ubyte'))
        if self.images.ndim != 3 or self.labels.shape != self.images.shape[:1]:
            raise ValueError(f'{path} has shape {self.images.shape} and its labels {self.labels.shape}; expected '
                             '(N, H, W) and (N,)')
        if self.labels.max(initial=0) >= len(GARMENTS):
            raise ValueError(f'{path} comes with label {self.labels.max()}; allowed are 0 to {len(GARMENTS) - 1}')

    def sample(self, rng: np.random.Generator, label: int | None = None) -> Garment:
        """Draws one garment, of the class ``label`` if that is given."""
        allowed = np.flatnonzero(self.labels == label) if label is not None else len(self.labels)
        index = rng.choice(allowed)
        return cut_out(self.images[index], self.labels[index])
