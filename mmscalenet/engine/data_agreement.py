"""Parts of a run's data that do not agree: each is good alone, and together they give wrong figures without a word."""
import os
from collections.abc import Iterator, Sequence
from typing import Any

from mmengine.evaluator import Evaluator
from mmengine.runner import Runner, ValLoop
from torch import nn

from .broken_data import parts_of
from .errors import UsageError


def check_folders(train: Any, others: dict[str, Any]) -> None:
    """Of data sets whose classes are the folders that are there: a folder more or less shifts all labels behind it.

    Raises:
        UsageError: If a folder has another label in one of ``others``, by their names, than in ``train``.
    """
    known = _folders(train)
    for name, dataset in others.items():
        if known and (folders := _folders(dataset)):
            _compare(known, folders, f'the {name} data', 'the training data')


def check_classes_of_checkpoint(dataset: Any, classes: Sequence[str] | None) -> None:
    """The same of a data set and the classes that a checkpoint was trained with.

    Raises:
        UsageError: If a folder has another label.
    """
    if classes and (folders := _folders(dataset)) and not _given_classes(dataset):
        _compare({name: label for label, name in enumerate(classes)}, folders, 'the test data',
                 'the data that the checkpoint was trained with')


def check_head(model: nn.Module, dataset: Any) -> str | None:
    """Of a classifier: its number of classes and that of the folders.

    Returns:
        str | None: A warning where the head has more.

    Raises:
        UsageError: If the head has fewer.
    """
    folders, number = _folders(dataset), getattr(getattr(model, 'head', None), 'num_classes', None)
    if not folders or not isinstance(number, int) or number == len(folders):
        return None
    text = f'model.head.num_classes={number}, and the training data have {len(folders)} folders, each a class'
    if number > len(folders):
        return f'{text}. Is it the number of another data set?'
    used = {int(info['gt_label']) for info in _records(dataset)}
    odd = [name for name, label in folders.items() if label not in used or not name[0].isalnum()]
    raise UsageError(f'{text}. Correct the number, or remove what is no class'
                     + f': {_some(odd)} may be none' * bool(odd) + '.')


def check_evaluator(dataset: Any, evaluator: Any) -> list[str]:
    """The annotation file of a COCO metric, and what it is to judge.

    Args:
        dataset (Any): The data set that is evaluated, or a wrapper of such.
        evaluator (Any): Its evaluator.

    Returns:
        list[str]: Warnings: images that the file has and the data set has not count as ones where nothing is found.

    Raises:
        UsageError: If the file lacks images of the data set, gives other ones their ids, or has other classes.
    """
    files = [metric._coco_api for metric in getattr(evaluator, 'metrics', [])
             if hasattr(getattr(metric, '_coco_api', None), 'file')]  # those that we read; a panoptic file is none
    if type(evaluator) is not Evaluator or not files:  # one for several data sets knows which file is whose
        return []
    records = [image for info in _records(dataset) for image in info.get('images', [info])]  # those of a video
    images = {info['img_id']: info.get('img_path', '') for info in records if 'img_id' in info}
    warnings = []
    for coco in files:
        where = f'the annotation file of the evaluator, "{coco.file}", and the data set do not agree'
        mend = 'Give val_evaluator and val_dataloader (or those of the test) the same ann_file.'
        if lacking := [image for image in images if image not in coco.imgs]:
            raise UsageError(f'{where}: it lacks {len(lacking)} of {len(images)} images, first the one with the id '
                             f'{lacking[0]!r}, "{images[lacking[0]]}". {mend}')
        for image, path in images.items():
            name = coco.imgs[image].get('file_name')
            if path and name and os.path.basename(str(name)) != os.path.basename(path):
                raise UsageError(f'{where}: the image with the id {image!r} is "{name}" in the one and "{path}" in the '
                                 f'other. {mend}')
        if classes := (getattr(dataset, 'metainfo', None) or {}).get('classes'):
            coco.get_cat_ids(cat_names=classes)
        if more := len(coco.imgs) - len(images):
            warnings.append(f'the annotation file of the evaluator, "{coco.file}", has {more} images that the data set '
                            'does not have: they count as images where nothing was found, and lower the figures')
    return warnings


def check_best(runner: Runner, save_best: Sequence[str]) -> None:
    """The names of the metrics by which the best checkpoint is chosen, as far as they are known before a validation.

    Raises:
        UsageError: If there is none of that prefix.
    """
    if runner.val_loop is None or type(evaluator := runner.val_loop.evaluator) is not Evaluator:
        return
    prefixes = [metric.prefix for metric in evaluator.metrics]
    if type(runner.val_loop).__name__ == 'TeacherStudentValLoop' and None not in prefixes:  # mmdet's, of two models
        prefixes = [f'{part}/{prefix}' for part in ('teacher', 'student') for prefix in prefixes]
    elif type(runner.val_loop).run is not ValLoop.run:  # which may give the metrics other names
        return
    for name in save_best:
        if name != 'auto' and None not in prefixes and not any(name.startswith(f'{prefix}/') for prefix in prefixes):
            raise UsageError(f'default_hooks.checkpoint.save_best={name!r} is no metric of val_evaluator, whose names '
                             f'begin with {" or ".join(repr(f"{prefix}/") for prefix in dict.fromkeys(prefixes))}.')


def _folders(dataset: Any) -> dict[str, int]:
    """Folder -> label, of mmpretrain's data sets that take their classes from folders."""
    return next((part.folder_to_idx for part in parts_of(dataset) if getattr(part, 'folder_to_idx', None)), {})


def _records(dataset: Any) -> Iterator[dict]:
    """Of all parts; what a wrapper shows comes again."""
    for part in parts_of(dataset):
        if hasattr(part, 'get_data_info'):
            yield from map(part.get_data_info, range(len(part)))


def _given_classes(dataset: Any) -> bool:
    """Whether names were given, so that folders have others."""
    return any(getattr(part, 'folder_to_idx', None) and tuple(part.metainfo['classes']) != tuple(part.folder_to_idx)
               for part in parts_of(dataset))


def _compare(known: dict[str, int], folders: dict[str, int], what: str, against: str) -> None:
    shifted = [name for name, label in folders.items() if known.get(name) != label]
    if not shifted:  # the last classes may be missing
        return
    more, less = ([name for name in one if name not in other] for one, other in ((folders, known), (known, folders)))
    name = next((name for name in shifted if name in known), shifted[0])
    raise UsageError(
        f'folders are classes, numbered in their order, and "{name}" is number {folders[name]} in {what} and '
        f'{known.get(name, "none")} in {against}. ' + f'More in {what}: {_some(more)}. ' * bool(more)
        + f'Missing there: {_some(less)}. ' * bool(less) + 'Remove folders that are no class, and make an empty one '
        'for a class without images.')


def _some(names: Sequence[str]) -> str:
    return ', '.join(f'"{name}"' for name in names[:5]) + ', ...' * (len(names) > 5)
