"""Writing Fashion scenes: images, COCO annotations and semantic maps in one folder, whole or not at all."""
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from mmengine.utils import track_iter_progress
from pycocotools import mask as rle

from .backgrounds import Backgrounds
from .classes import GARMENTS
from .garments import Garments
from .scenes import Scene, compose

#: Split -> part of Fashion-MNIST: no garment is in both.
PARTS = dict(train='train', val='t10k')
CROWD_EVERY = 10
SETTINGS = 'settings.json'
MIN_SIZE, MAX_SIZE = 96, 1024


def annotations(scene: Scene) -> Iterator[dict]:
    """The objects as COCO annotations, without ids. Masks are run lengths, which unlike polygons are exact."""
    for index, layer in enumerate(scene.objects):
        code = rle.encode(np.asfortranarray(scene.ids == index + 1, dtype=np.uint8))
        yield dict(
            category_id=layer.label + 1,
            bbox=rle.toBbox(code).tolist(),
            area=int(rle.area(code)),
            segmentation=dict(size=code['size'], counts=code['counts'].decode('ascii')),
            iscrowd=int(layer.crowd))


def scene_at(index: int, split: str, garments: Garments, backgrounds: Backgrounds, size: int, seed: int) -> Scene:
    """Scene ``index`` of a split: it depends on these arguments alone, not on the scenes made before."""
    rng = np.random.default_rng([seed, list(PARTS).index(split), index])
    return compose(rng, garments, backgrounds, size, with_crowd=index % CROWD_EVERY == 0)


def write_split(out: Path, split: str, source: Path, count: int, size: int, seed: int) -> None:
    """Writes ``count`` scenes of a split below ``out``."""
    garments, backgrounds = Garments(source, PARTS[split]), Backgrounds(split)
    for folder in (f'images/{split}', f'semantic/{split}', 'annotations'):
        (out / folder).mkdir(parents=True, exist_ok=True)
    coco = dict(
        info=dict(description=f'Fashion scenes, {split}', version='1'),
        licenses=[dict(id=1, name='MIT (garments, Fashion-MNIST), CC0 or public domain (backgrounds, scikit-image)')],
        categories=[dict(id=i + 1, name=name, supercategory='garment') for i, name in enumerate(GARMENTS)],
        images=[],
        annotations=[])
    print(f'{split}: {count} scenes', flush=True)
    for index in track_iter_progress(range(count)):
        scene = scene_at(index, split, garments, backgrounds, size, seed)
        name = f'{index:06d}'
        _write(out / f'images/{split}/{name}.jpg', scene.image, [cv2.IMWRITE_JPEG_QUALITY, 95])
        _write(out / f'semantic/{split}/{name}.png', scene.semantic())
        coco['images'].append(dict(id=index + 1, file_name=f'{name}.jpg', height=size, width=size, license=1))
        for annotation in annotations(scene):
            coco['annotations'].append(dict(id=len(coco['annotations']) + 1, image_id=index + 1, **annotation))
    print(flush=True)
    (out / f'annotations/instances_{split}.json').write_text(json.dumps(coco))


def _write(path: Path, image: np.ndarray, options: list[int] = []) -> None:
    if not cv2.imwrite(str(path), image, options):
        raise OSError(f'{path} cannot be written')


def is_whole(out: Path, settings: dict) -> bool:
    """Whether ``out`` holds all the scenes that ``settings`` ask for.

    Raises:
        FileExistsError: If it holds anything else.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    advice = 'name another folder with --out, or delete it'
    try:
        found = json.loads((out / SETTINGS).read_text())
    except (OSError, ValueError) as error:
        raise FileExistsError(f'{out} exists and holds no Fashion scenes: {advice}') from error
    if found != settings:
        differing = '; '.join(f'{key} {found.get(key)}, not {settings[key]}' for key in settings
                              if found.get(key) != settings[key])
        raise FileExistsError(f'{out} holds scenes made with {differing}: {advice}')
    for split in PARTS:
        for folder, suffix in ((f'images/{split}', '.jpg'), (f'semantic/{split}', '.png')):
            names = {path.name for path in (out / folder).glob(f'*{suffix}')}
            lost = {f'{index:06d}{suffix}' for index in range(settings[split])} - names
            if lost:
                raise FileExistsError(f'{out / folder} lacks {len(lost)} files, first {min(lost)}: {advice}')
        if not (out / f'annotations/instances_{split}.json').is_file():
            raise FileExistsError(f'{out}/annotations lacks instances_{split}.json: {advice}')
    return True


def write_fashion_scenes(out: str | Path, source: str | Path, train: int = 12000, val: int = 150, size: int = 224,
                         seed: int = 0) -> Path:
    """Writes Fashion scenes: ``images/``, ``annotations/instances_{train,val}.json`` (COCO) and ``semantic/``.

    The same arguments give the same bytes. The folder appears when it is whole; a repeated call only checks it.

    Args:
        out (str | Path): The folder to write.
        source (str | Path): The folder of Fashion-MNIST.
        train (int): Number of training scenes. Defaults to 12000.
        val (int): Number of validation scenes. Defaults to 150.
        size (int): Side of the images. Defaults to 224.
        seed (int): What all is drawn from. Defaults to 0.

    Returns:
        Path: The folder.

    Raises:
        ValueError: If a number is out of range, or a file of Fashion-MNIST is damaged.
        FileExistsError: If ``out`` holds something else, which is left as it is.
        FileNotFoundError: If Fashion-MNIST or scikit-image is not there.
    """
    settings = dict(format=1, train=train, val=val, size=size, seed=seed)
    for name, lowest, highest in (('train', 1, 999999), ('val', 1, 999999), ('size', MIN_SIZE, MAX_SIZE),
                                  ('seed', 0, 2**63 - 1)):
        if not lowest <= settings[name] <= highest:
            raise ValueError(f'{name} must be from {lowest} to {highest}, got {settings[name]}')
    out = Path(out)
    if is_whole(out, settings):
        return out
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f'.{out.name}-') as scratch:
        whole = Path(scratch) / 'whole'
        for split in PARTS:
            write_split(whole, split, Path(source), settings[split], size, seed)
        (whole / SETTINGS).write_text(json.dumps(settings))
        whole.rename(out)
    return out
