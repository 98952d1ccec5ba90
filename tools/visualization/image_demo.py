"""Predict with a trained classifier, detector or segmentor: a picture and a JSON file for each image.

Works for configs of mmpretrain, mmdet and mmseg. An image shop/a.jpg gives, under OUT, shop/a.jpg.png (the picture)
and shop/a.jpg.json; of a segmentor also shop/a.jpg.map.png, which holds the label of each pixel. An image that cannot
be read is named in a warning and passed over; the exit code is then 2.

    python tools/visualization/image_demo.py photos configs/mask_rcnn_scalenet_swin.py epoch_12.pth
    python tools/visualization/image_demo.py 'photos/*/front.jpg' CONFIG CHECKPOINT --score-thr 0.5 --batch-size 8
"""
import argparse
import glob
import json
import os
import sys
from pathlib import Path

import numpy as np
import torch
from mmengine.config import DictAction
from mmengine.logging import MMLogger
from mmengine.structures import BaseDataElement
from mmengine.utils import track_iter_progress
from PIL import Image

import mmscalenet  # noqa: F401  our names exist even where a config forgot custom_imports
from mmscalenet.apis import Inferencer
from mmscalenet.engine import (
    UsageError,
    add_depth_argument,
    check_checkpoint,
    one_line_errors,
    read_config,
    use_depth,
    whole_file,
)

SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp', '.ppm', '.pgm')


def is_ours(path: Path) -> bool:
    """Whether a picture has a name as :func:`save` gives it: ``photo.jpg.png``, ``photo.jpg.map.png``."""
    stem = path.name.removesuffix('.png').removesuffix('.map')
    return path.suffix == '.png' and Path(stem).suffix.lower() in SUFFIXES


def find_images(source: str, out: Path) -> tuple[list[Path], Path]:
    """The images that ``source`` names, pictures of ours below ``out`` left out, and the folder they lie in.

    Raises:
        UsageError: If there is none.
    """
    if os.path.isfile(source):
        return [Path(source)], Path(source).parent
    found = Path(source).rglob('*') if os.path.isdir(source) else map(Path, glob.glob(source, recursive=True))
    images = sorted(path for path in found if path.suffix.lower() in SUFFIXES and path.is_file()
                    and not (is_ours(path) and out.resolve() in path.resolve().parents))
    if not images:
        raise UsageError(f'no image found: "{source}" is to be an image, a folder with images or a pattern that '
                         f'matches some, e.g. "photos/*.jpg" in quotes. Endings looked for: {" ".join(SUFFIXES)}')
    return images, Path(os.path.commonpath([source] if os.path.isdir(source) else [path.parent for path in images]))


def load_images(inferencer: Inferencer, paths: list[Path], broken: list[Path]) -> dict[Path, np.ndarray]:
    """Reads the images; adds to ``broken`` those that cannot be read."""
    images = {}
    for path in paths:
        try:
            images[path] = inferencer.load(path)
        except ValueError as error:
            print(f'\nwarning: {error}; passed over', file=sys.stderr, flush=True)
            broken.append(path)
    return images


def save_picture(picture: np.ndarray, path: Path) -> None:
    with whole_file(path) as temporary:
        Image.fromarray(picture).save(temporary, format='PNG')


def save(inferencer: Inferencer, path: Path, image: np.ndarray, sample: BaseDataElement, target: Path,
         score_thr: float) -> None:
    """Writes what is predicted for an image to files whose names start with ``target``."""
    try:
        result = dict(image=str(path), **inferencer.describe(sample, score_thr))
    except ValueError as error:
        raise UsageError(str(error)) from error
    save_picture(inferencer.draw(image, sample, score_thr), Path(f'{target}.png'))
    if 'pred_sem_seg' in sample:
        labels = sample.pred_sem_seg.data[0].numpy()
        small = len(inferencer.classes) <= 256
        save_picture(labels.astype(np.uint8 if small else np.uint16), Path(f'{target}.map.png'))
        result['map'] = f'{target.name}.map.png'
    with whole_file(f'{target}.json') as temporary:
        temporary.write_text(json.dumps(result))


def check_device(device: str | None) -> None:
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f'--device "{device}" cannot be used: {str(error).splitlines()[0]} Give cpu, cuda or cuda:N, '
                         'or leave it out.') from error


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('input', help='an image, a folder (with its subfolders) or a pattern in quotes')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file; no other weights are needed')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/image_demo'), metavar='DIR',
                        help='folder for pictures and JSON files; default: %(default)s')
    parser.add_argument('--device', help='cpu, cuda, cuda:1, ...; default: a GPU if there is one')
    parser.add_argument('--score-thr', type=float, default=0.3, help='leave detections with a score up to this out of '
                        'picture and JSON; default: %(default)s')
    parser.add_argument('--batch-size', type=int, default=1, help='most images at once; default: %(default)s')
    add_depth_argument(parser)
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='key=value settings for the config')
    return parser.parse_args()


@one_line_errors
def main() -> None:
    args = parse_args()
    if not 0 <= args.score_thr <= 1:
        raise UsageError(f'--score-thr {args.score_thr} is not allowed: scores are from 0 to 1.')
    if args.batch_size < 1:
        raise UsageError(f'--batch-size {args.batch_size} is not allowed: give 1 or more.')
    check_device(args.device)
    check_checkpoint(args.checkpoint, 'checkpoint')
    cfg = read_config(args.config, args.cfg_options)
    use_depth(cfg, args.depth)
    paths, root = find_images(args.input, args.out)
    MMLogger.get_instance('image_demo', log_level='WARNING')
    try:
        inferencer = Inferencer(cfg, args.checkpoint, args.device)
    except ValueError as error:
        raise UsageError(str(error)) from error
    broken: list[Path] = []
    for start in track_iter_progress(range(0, len(paths), args.batch_size)):
        images = load_images(inferencer, paths[start:start + args.batch_size], broken)
        samples = inferencer(images.values(), args.batch_size)
        for (path, image), sample in zip(images.items(), samples, strict=True):
            save(inferencer, path, image, sample, args.out / path.relative_to(root), args.score_thr)
    print(f'\n{len(paths) - len(broken)} of {len(paths)} images done; pictures and JSON files are in {args.out}')
    if broken:
        raise UsageError(f'images that cannot be read: {", ".join(map(str, broken))}')


if __name__ == '__main__':
    main()
