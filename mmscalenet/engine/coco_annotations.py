"""COCO annotation files, checked while mmdet reads them."""
import logging
import math
import os
import re
from collections.abc import Sequence

from mmdet.datasets import CocoDataset
from mmdet.datasets.api_wrappers import COCO
from mmdet.evaluation.metrics import coco_metric
from mmengine.logging import print_log

from .errors import UsageError

#: "counts" of a compressed RLE: the last character ends a number.
_COMPRESSED = re.compile('[0-o]*[0-O]|')


class CheckedCOCO(COCO):
    """mmdet's reader of COCO files, except that an error names the file and the record.

    What mmdet leaves out by itself (objects marked ``ignore``, without area or outside the image, polygons that are no
    three points, classes that the config does not name) is no error; of objects whose image or category is not in the
    file their number is logged. A damaged mask is one: pycocotools takes all memory at a NaN, and fills what an RLE
    leaves open with what is in memory.
    """
    #: What mmdet's ``CocoDataset`` looks up in each record.
    keys = dict(image=('file_name', 'height', 'width'), category=('name', ), annotation=('image_id', 'category_id'),
                object=('area', 'bbox'))
    unique_ids = True

    def __init__(self, annotation_file: str | None = None) -> None:
        self.file = annotation_file
        try:
            super().__init__(annotation_file)
        except (ValueError, AssertionError) as error:
            mend = ('Save it as UTF-8 without a byte-order mark.' if 'BOM' in str(error) else
                    'It is damaged, or its copy or download broke off: get it again.')
            raise UsageError(f'the annotation file "{annotation_file}" is no JSON file in COCO\'s format: {error}. '
                             f'{mend}') from error

    def createIndex(self) -> None:  # noqa: N802  the name is pycocotools's
        images = self._by_id('image', 'images')
        categories = self._by_id('category', 'categories')
        if not images or not categories:
            self._refuse('', f'lists no {"categories" if images else "images"}')
        for image in images.values():
            self._check_image(image)
        # files of images to be tested have no annotations
        annotations = self._by_id('annotation', 'annotations', optional=True)
        left_out = []
        for annotation in annotations.values():
            if annotation['image_id'] not in images or annotation['category_id'] not in categories:
                left_out.append(annotation['id'])
                continue
            if annotation.get('ignore'):
                continue
            image = images[annotation['image_id']]
            where = f'annotation {annotation["id"]!r} (image {annotation["image_id"]}, {image.get("file_name")})'
            self._check_keys(where, annotation, 'object')
            if not _is_finite(annotation['area']):
                self._refuse(where, f'has the area {annotation["area"]!r}, and a finite number is needed')
            box = annotation['bbox']
            if not (isinstance(box, list) and len(box) == 4 and all(map(_is_finite, box))):
                self._refuse(where, f'has the bbox {box!r}, and four finite numbers are needed: x, y, width, height')
            if problem := _problem_of_mask(annotation.get('segmentation'), image):
                self._refuse(where, problem)
        if left_out:
            print_log(f'"{self.file}": {len(left_out)} of {len(annotations)} annotations are left out, as their image '
                      f'or category is not in the file; the first is annotation {left_out[0]!r}', 'current',
                      logging.WARNING)
        super().createIndex()

    def get_cat_ids(self, cat_names: Sequence[str] = (), **kwargs) -> list[int]:
        """The ids of the classes, whose places in the list become mmdet's labels."""
        if cat_names:
            self._check_classes(cat_names)
        return super().get_cat_ids(cat_names, **kwargs)

    def _check_classes(self, classes: Sequence[str]) -> None:
        if isinstance(classes, str):
            raise UsageError(f'the classes of the data set are the text {classes!r}. Write a tuple, in metainfo of '
                             f'each data set: metainfo=dict(classes=({classes!r}, )).')
        names = [category['name'] for category in self.dataset['categories']]
        advice = (f'Its categories are {_some(names)}. Give each data set those you want, in this order, e.g. '
                  f'metainfo=dict(classes=({_some(names, 3)}, )), and the heads as many num_classes.')
        missing = [name for name in classes if name not in names]
        if missing:
            raise UsageError(f'the annotation file "{self.file}" lacks {len(missing)} of the {len(classes)} classes of '
                             f'the config: {_some(missing)}. {advice}')
        found = [name for name in names if name in classes]
        if len(found) > len(classes):
            repeated = {name: None for name in found if found.count(name) > 1}
            raise UsageError(f'the annotation file "{self.file}" has several categories of the name '
                             f'{_some(list(repeated))}. Give each a name of its own.')
        # mmdet numbers the classes as they come in the file, and names them as they come in the config
        for theirs, ours in zip(found, classes, strict=False):
            if theirs != ours:
                raise UsageError(f'the annotation file "{self.file}" has the classes in another order than the config: '
                                 f'mmdet would call {theirs!r} {ours!r}. {advice}')

    def _by_id(self, kind: str, name: str, optional: bool = False) -> dict:
        records, by_id = self.dataset.get(name, [] if optional else None), {}
        if not isinstance(records, list):
            self._refuse('', f'has no list "{name}"')
        for number, record in enumerate(records):
            if not isinstance(record, dict) or 'id' not in record:
                self._refuse(f'entry {number} of "{name}"', 'has no "id"')
            where = f'{kind} {record["id"]!r}'
            self._check_keys(where, record, kind)
            for key in ('id', *self.keys[kind]):
                if isinstance(record[key], (list, dict)):
                    self._refuse(where, f'has the {key} {record[key]!r}, and a number or a text is needed')
            if record['id'] in by_id and self.unique_ids:
                self._refuse(where, 'is there twice')
            by_id[record['id']] = record
        return by_id

    def _check_image(self, image: dict) -> None:
        for key in ('height', 'width'):
            if key in image and not _is_count(image[key]):
                self._refuse(f'image {image["id"]!r}', f'has the {key} {image[key]!r}, and a whole number is needed')
        if os.sep == '/' and '\\' in str(image.get('file_name', '')):
            self._refuse(f'image {image["id"]!r}', f'has the file_name {image["file_name"]!r}, and folders are '
                         'separated by "/" here')

    def _check_keys(self, where: str, record: dict, kind: str) -> None:
        for key in self.keys[kind]:
            if key not in record:
                self._refuse(where, f'has no "{key}"')

    def _refuse(self, where: str, problem: str) -> None:
        where, mend = (f': {where}', 'Correct or remove this record.') if where else ('', 'Is it the right file?')
        raise UsageError(f'the annotation file "{self.file}"{where} {problem}. {mend}')


class CheckedGroundTruth(CheckedCOCO):
    """The same for ``CocoMetric``, which looks up other things, and may itself have written the file.

    It then holds what the loader gave, so images are there twice if the data set repeats them. Annotations are numbered
    anew, from 1: pycocotools takes an object with the id 0 for one that no prediction has found, and needs numbers.
    """
    keys = dict(image=(), category=('name', ), annotation=('image_id', 'category_id'),
                object=('area', 'bbox', 'iscrowd'))
    unique_ids = False

    def createIndex(self) -> None:  # noqa: N802
        super().createIndex()
        annotations = [dict(annotation, id=number)
                       for number, annotation in enumerate(self.dataset.get('annotations', []), 1)]
        self.dataset = dict(self.dataset, annotations=annotations)
        COCO.createIndex(self)


def check_annotations() -> None:
    """Have ``CocoDataset``, what derives from it, and ``CocoMetric`` read with the check."""
    CocoDataset.COCOAPI = CheckedCOCO
    coco_metric.COCO = CheckedGroundTruth


def _is_finite(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _problem_of_mask(mask: object, image: dict) -> str | None:
    if not mask or mask == [[]]:  # both are written for objects that have a box alone
        return None
    if isinstance(mask, list):
        return next(filter(None, map(_problem_of_polygon, mask)), None)
    if not isinstance(mask, dict) or not isinstance(mask.get('counts'), (list, str)):
        return 'has a segmentation that is neither a list of polygons nor an RLE with "size" and "counts"'
    return _problem_of_rle(mask.get('size'), mask['counts'], [image.get('height'), image.get('width')])


def _problem_of_polygon(polygon: object) -> str | None:
    if not isinstance(polygon, list):
        return f'has a polygon that is no list of numbers: {polygon!r}'
    try:
        finite = -math.inf < sum(polygon) < math.inf  # a tenth of the time that a look at each would take
    except (TypeError, OverflowError):
        finite = False
    if not finite:
        wrong = next((value for value in polygon if not _is_finite(value)), polygon)
        return f'has a polygon with {wrong!r} in it, and finite numbers are needed: x, y, x, y, ...'
    return None


def _problem_of_rle(size: object, counts: list | str, image_size: list) -> str | None:
    if size != image_size and None not in image_size:
        return f'has an RLE of size {size}, and the image has height and width {image_size}'
    if not (isinstance(size, list) and len(size) == 2 and all(map(_is_count, size))):
        return f'has an RLE of size {size!r}, and height and width are needed'
    if isinstance(counts, str):
        counts = _run_lengths(counts)
        if counts is None:
            return 'has an RLE whose "counts" are no text of pycocotools, or broke off'
    wrong = [count for count in counts if not _is_count(count)]
    if wrong:
        return f'has an RLE with {wrong[0]!r} in its "counts", and whole numbers from 0 on are needed'
    if sum(counts) != size[0] * size[1]:
        return f'has an RLE of {sum(counts)} pixels, and the image has {size[0]} x {size[1]} = {size[0] * size[1]}'
    return None


def _is_count(value: object) -> bool:
    return isinstance(value, (int, float)) and value >= 0 and value % 1 == 0


def _run_lengths(text: str) -> list[int] | None:
    """The counts of a compressed RLE, as pycocotools reads them (``rleFrString``), but not beyond the end."""
    if not _COMPRESSED.fullmatch(text):
        return None
    lengths: list[int] = []
    value = shift = 0
    for char in text.encode():
        bits = char - 48  # five of the number, and whether there are more
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        lengths.append(value + lengths[-2] if len(lengths) > 2 else value)
        value = shift = 0
    return lengths


def _some(names: Sequence[str], limit: int = 10) -> str:
    return ', '.join(map(repr, names[:limit])) + (', ...' if len(names) > limit else '')
