"""Composing one scene: garments pasted from back to front into an image and a map of object ids."""
from dataclasses import dataclass

import cv2
import numpy as np

from .backgrounds import Backgrounds
from .classes import GARMENTS
from .garments import MARGIN, Garment, Garments

#: A paste that leaves less of any object is not made.
MIN_VISIBLE = 0.35
MIN_PIXELS = 80
CROWD_SIZE = 10
#: How often another garment and place is drawn when a paste is not made.
PLACEMENTS = 4


@dataclass(frozen=True)
class Layer:
    """What one paste puts into the image.

    Args:
        colour (np.ndarray): (H, W, 3), BGR, float32.
        alpha (np.ndarray): Share of this layer in each pixel (H, W), float32 in [0, 1].
        full_area (float): Pixels it would have if nothing hid or cropped it.
        label (int): Class of its garments.
        crowd (bool): Whether it is many garments, annotated as one region. Defaults to False.
    """
    colour: np.ndarray
    alpha: np.ndarray
    full_area: float
    label: int
    crowd: bool = False

    @property
    def mask(self) -> np.ndarray:
        return self.alpha > 0.5

    def blend_into(self, image: np.ndarray) -> None:
        """Draws it over ``image`` (H, W, 3), in place."""
        touched = self.alpha > 0
        alpha = self.alpha[touched, None]
        image[touched] = np.rint(image[touched] * (1 - alpha) + self.colour[touched] * alpha)


@dataclass
class Scene:
    """An image with its ground truth; pixel value i + 1 of ``ids`` is object i, 0 the background.

    Args:
        image (np.ndarray): (H, W, 3), BGR, uint8.
        stuff (np.ndarray): What the background shows (H, W), uint8: 0 unlabelled, i + 1 for stuff i.
        ids (np.ndarray): (H, W), uint8.
        objects (list[Layer]): From back to front.
    """
    image: np.ndarray
    stuff: np.ndarray
    ids: np.ndarray
    objects: list[Layer]

    def paste(self, layer: Layer) -> bool:
        """Puts a layer in front, unless too little of it or of any object would be seen; returns whether it did."""
        ids = np.where(layer.mask, np.uint8(len(self.objects) + 1), self.ids)
        visible = np.bincount(ids.ravel(), minlength=len(self.objects) + 2)[1:]
        full = np.array([obj.full_area for obj in [*self.objects, layer]])
        if (visible < np.maximum(MIN_VISIBLE * full, MIN_PIXELS)).any():
            return False
        layer.blend_into(self.image)
        self.ids = ids
        self.objects.append(layer)
        return True

    def semantic(self) -> np.ndarray:
        """The semantic map (H, W), uint8: 0 unlabelled, 1..10 garments, from 11 on stuff."""
        values = np.array([0, *(layer.label + 1 for layer in self.objects)], np.uint8)
        background = np.where(self.stuff > 0, self.stuff + len(GARMENTS), 0).astype(np.uint8)
        return np.where(self.ids > 0, values[self.ids], background)


def place(rng: np.random.Generator, garment: Garment, side: float, centre: np.ndarray, size: int) -> Layer:
    """Turns a garment, gives it a colour and puts it into an empty frame.

    Args:
        rng (np.random.Generator): Draws angle, mirroring and colour.
        garment (Garment): The cut-out.
        side (float): What its image's side, without margin, becomes, in pixels.
        centre (np.ndarray): Where its centre goes, (x, y).
        size (int): Side of the frame.
    """
    height, width = garment.grey.shape
    scale = side / (height - 2 * MARGIN)
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), rng.uniform(-30, 30), scale)
    if rng.random() < 0.5:
        matrix[:, 2] += matrix[:, 0] * (width - 1)
        matrix[:, 0] *= -1
    matrix[:, 2] += centre - np.array([(width - 1) / 2, (height - 1) / 2])
    # One matrix for both, so that grey and mask cannot part. A mask is all steps: cubic would make bumps of them.
    grey = cv2.warpAffine(garment.grey / np.float32(255), matrix, (size, size), flags=cv2.INTER_CUBIC)
    mask = cv2.warpAffine(garment.mask.astype(np.float32), matrix, (size, size), flags=cv2.INTER_LINEAR)
    alpha = np.clip((mask - 0.5) * max(scale, 1) + 0.5, 0, 1)  # an edge of about one pixel at any scale
    hue, saturation, value = rng.uniform(0, 360), rng.uniform(0.2, 0.9), rng.uniform(0.6, 1)
    tint = cv2.cvtColor(np.array([[[hue, saturation, value]]], np.float32), cv2.COLOR_HSV2BGR)[0, 0]
    colour = np.multiply.outer(0.15 + 0.85 * np.clip(grey, 0, 1), 255 * tint)
    return Layer(colour, alpha, garment.mask.sum() * scale**2, garment.label)


def draw_centre(rng: np.random.Generator, side: float, size: int) -> np.ndarray:
    """Draws where the centre of a garment goes, (x, y): it may reach over the border of the frame."""
    return rng.uniform(0.35 * side, size - 0.35 * side, 2)


def single(rng: np.random.Generator, garments: Garments, size: int, side: float) -> Layer:
    """Draws one garment of any class."""
    centre = draw_centre(rng, side, size)
    return place(rng, garments.sample(rng), side, centre, size)


def crowd(rng: np.random.Generator, garments: Garments, size: int) -> Layer:
    """Draws about ten small garments of one class, close together: one region."""
    label = int(rng.choice(np.unique(garments.labels)))
    step = max(20., size / 10)
    corner = rng.uniform(0.5 * step, size - np.array([3.5, 2.5]) * step)
    cells = rng.permutation(12)[:CROWD_SIZE + rng.integers(-1, 2)]
    colour, alpha, area = np.zeros((size, size, 3), np.float32), np.zeros((size, size), np.float32), 0
    for cell in cells:
        centre = corner + step * (np.array([cell % 4, cell // 4]) + rng.uniform(-0.15, 0.15, 2))
        layer = place(rng, garments.sample(rng, label), step * rng.uniform(0.8, 1.1), centre, size)
        colour = np.where((layer.alpha > 0)[..., None], layer.colour, colour)
        alpha = np.maximum(alpha, layer.alpha)
        area += layer.full_area
    return Layer(colour, alpha, area, label, crowd=True)


def compose(rng: np.random.Generator, garments: Garments, backgrounds: Backgrounds, size: int,
            with_crowd: bool) -> Scene:
    """Composes a scene of up to eight garments, and a crowd behind them if asked for.

    Sides go from 24 pixels to 5/7 of the frame's (160 of 224), so that at 224 pixels all of COCO's size ranges occur.

    Args:
        rng (np.random.Generator): Draws everything: equal states give equal scenes.
        garments (Garments): The garments of the split.
        backgrounds (Backgrounds): The backgrounds of the split.
        size (int): Side of the image.
        with_crowd (bool): Whether there is a crowd.
    """
    image, stuff = backgrounds.sample(rng, size)
    scene = Scene(image, stuff, np.zeros((size, size), np.uint8), [])
    if with_crowd:
        scene.paste(crowd(rng, garments, size))
    sides = np.exp(rng.uniform(np.log(24), np.log(size * 5 / 7), rng.integers(3, 9)))
    for side in sorted(sides, reverse=True):  # the large ones would hide what is there
        for _ in range(PLACEMENTS):
            if scene.paste(single(rng, garments, size, side)):
                break
    return scene
