"""Draw what the pipeline of a config delivers to the model: images with boxes, masks, labels or segmentation maps.

Works for configs of mmpretrain, mmdet and mmseg. Pictures are named after the position in the data set and the image
file, e.g. 000003_street.png, so repeated and augmented images stay apart. The pipelines of validation and test load
annotations after they resize the image, for the evaluation at the original size; here they load them first, so that
the annotations lie where the model sees the objects. Batches are mixed (mmpretrain's Mixup and CutMix) after the
pipeline: that is not shown.

    python tools/visualization/browse_dataset.py configs/mask_rcnn_scalenet_swin.py --number 20
    python tools/visualization/browse_dataset.py configs/upernet_scalenet_swin.py --split val --out pictures
"""
import argparse
import re
from pathlib import Path

import numpy as np
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.logging import MMLogger
from mmengine.registry import DATASETS
from mmengine.structures import BaseDataElement
from mmengine.utils import track_iter_progress
from PIL import Image
from torch import Tensor

import mmscalenet  # noqa: F401  our names exist even where a config forgot custom_imports
from mmscalenet.apis import Drawer, enter_scope
from mmscalenet.engine import UsageError, name_missing_files, one_line_errors, read_config, whole_file
from mmscalenet.engine.broken_data import name_parts


def load_annotations_early(dataset: object) -> None:
    """In every pipeline of a data set's config, move what loads annotations to behind what loads the image."""
    if isinstance(dataset, dict):
        steps = dataset.get('pipeline')
        if isinstance(steps, list):  # a stable sort: all else keeps its order
            dataset['pipeline'] = sorted(steps, key=lambda step: 0 if 'LoadImage' in str(step['type']) else
                                         1 if re.search(r'Load\w*Annotation', str(step['type'])) else 2)
        for part in dataset.values():
            load_annotations_early(part)
    elif isinstance(dataset, (list, tuple)):
        for part in dataset:
            load_annotations_early(part)


def is_bgr(cfg: Config, dataset: ConfigDict) -> bool:
    """Whether images are BGR: those from files are, and those that the model's preprocessor turns to RGB."""
    preprocessor = cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    turned = preprocessor.get('to_rgb') or preprocessor.get('bgr_to_rgb')
    return bool(turned) or 'LoadImage' in str(dataset)


def to_picture(inputs: Tensor, bgr: bool) -> np.ndarray:
    """(C, H, W) as the pipeline gives it to RGB (H, W, C), without a fourth channel."""
    image = inputs.permute(1, 2, 0).numpy()
    return image[..., 2::-1] if bgr else image[..., :3]


def drawable(sample: BaseDataElement) -> BaseDataElement:
    """The sample with boxes as plain tensors, as mmdet's visualizer wants them."""
    if 'bboxes' in sample.get('gt_instances', {}):
        boxes = sample.gt_instances.bboxes
        sample.gt_instances.bboxes = getattr(boxes, 'tensor', boxes)
    return sample


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file')
    parser.add_argument('--split', choices=('train', 'val', 'test'), default='train', help='default: %(default)s')
    parser.add_argument('--number', type=int, help='how many images, from the first on; default: all')
    parser.add_argument('--out', type=Path, metavar='DIR', help='folder for the pictures; default: '
                        'work_dirs/CONFIG/browse_SPLIT')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='key=value settings for the config')
    return parser.parse_args()


@one_line_errors
def main() -> None:
    args = parse_args()
    if args.number is not None and args.number < 1:
        raise UsageError(f'--number {args.number} is not allowed: give 1 or more.')
    cfg = read_config(args.config, args.cfg_options)
    options = (cfg.get(f'{args.split}_dataloader') or {}).get('dataset')
    if not options:
        raise UsageError(f'--split {args.split}: the config "{args.config}" has no {args.split}_dataloader with a '
                         'dataset.')
    out = args.out or Path('work_dirs', Path(args.config).stem, f'browse_{args.split}')
    MMLogger.get_instance('browse_dataset', log_level='WARNING')
    try:
        scope = enter_scope(cfg)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if args.split != 'train':  # a pipeline of training may need its own order, e.g. for InstaBoost
        load_annotations_early(options)
    if scope == 'mmdet':
        from mmscalenet.engine.coco_annotations import check_annotations  # imports mmdet, which need not be there
        check_annotations()
    with name_missing_files(cfg):
        dataset = DATASETS.build(options)
        name_parts(dataset)
        draw = Drawer(cfg, dataset.metainfo)
        bgr = is_bgr(cfg, options)
        for index in track_iter_progress(range(min(args.number or len(dataset), len(dataset)))):
            item = dataset[index]
            if not isinstance(item['inputs'], Tensor) or item['inputs'].ndim != 3:
                raise UsageError('the pipeline gives several views of an image, or frames of a video, and only single '
                                 'images can be drawn. Name another split or pipeline.')
            sample = drawable(item['data_samples'])
            name = Path(sample.get('img_path') or '').stem
            with whole_file(out / f'{index:06d}{"_" * bool(name)}{name}.png') as path:
                Image.fromarray(draw(to_picture(item['inputs'], bgr), sample, truth=True)).save(path, format='PNG')
    print(f'\nthe pictures are in {out}')


if __name__ == '__main__':
    main()
