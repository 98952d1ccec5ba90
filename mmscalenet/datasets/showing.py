"""A picture of Fashion scenes, drawn from the written files."""
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from pycocotools.coco import COCO

from .classes import GARMENT_PALETTE, STUFF_PALETTE

COLUMNS = 4
SCALE = 1.5


def draw_scene(image: np.ndarray, objects: list[tuple[np.ndarray, dict, str]]) -> np.ndarray:
    """Draws masks, boxes and names on an image (H, W, 3); a crowd has a white box."""
    image = cv2.resize(image, None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_CUBIC)
    for mask, annotation, _ in objects:
        colour = GARMENT_PALETTE[annotation['category_id'] - 1][::-1]
        mask = cv2.resize(mask, image.shape[1::-1], interpolation=cv2.INTER_NEAREST).astype(bool)
        image[mask] = image[mask] * 0.65 + np.array(colour) * 0.35
        contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(image, contours, -1, colour, 1)
    for _, annotation, name in objects:
        colour = (255, 255, 255) if annotation['iscrowd'] else GARMENT_PALETTE[annotation['category_id'] - 1][::-1]
        x, y, width, height = (round(value * SCALE) for value in annotation['bbox'])
        cv2.rectangle(image, (x, y), (x + width - 1, y + height - 1), colour, 1)
        text = f'{name} crowd' if annotation['iscrowd'] else name
        for ink, thickness in (((0, 0, 0), 3), (colour, 1)):
            cv2.putText(image, text, (x + 2, max(y, 0) + 10), cv2.FONT_HERSHEY_SIMPLEX, 0.36, ink, thickness,
                        cv2.LINE_AA)
    return image


def draw_scenes(root: str | Path, picture: str | Path, split: str = 'train', count: int = 20) -> None:
    """Draws the first ``count`` scenes of a split, each beside its semantic map, into one picture.

    Args:
        root (str | Path): The folder of the scenes.
        picture (str | Path): The PNG to write.
        split (str): 'train' or 'val'. Defaults to 'train'.
        count (int): How many. Defaults to 20.

    Raises:
        OSError: If the picture cannot be written.
    """
    root = Path(root)
    coco = COCO(root / f'annotations/instances_{split}.json')
    palette = np.array([(0, 0, 0), *GARMENT_PALETTE, *STUFF_PALETTE], np.uint8)[:, ::-1]
    tiles = []
    for info in coco.loadImgs(coco.getImgIds()[:count]):
        found = coco.loadAnns(coco.getAnnIds(info['id']))
        objects = [(coco.annToMask(ann), ann, coco.cats[ann['category_id']]['name']) for ann in found]
        scene = draw_scene(cv2.imread(str(root / f'images/{split}' / info['file_name'])), objects)
        stuff = cv2.imread(str((root / f'semantic/{split}' / info['file_name']).with_suffix('.png')), 0)
        stuff = cv2.resize(palette[stuff], scene.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        tiles.append(cv2.copyMakeBorder(np.hstack([scene, stuff]), 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=(255, ) * 3))
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % COLUMNS)
    rows = [np.hstack(tiles[start:start + COLUMNS]) for start in range(0, len(tiles), COLUMNS)]
    Path(picture).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.vstack(rows)[..., ::-1]).quantize().save(picture, format='PNG')
