"""An image or segmentation map that cannot be used, named in one line."""
import os
from collections.abc import Iterator
from typing import Any

from mmengine.dataset import Compose
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from .errors import UsageError


def name_broken_data(runner: Runner) -> None:
    """Have every data set of every loader of a runner name the file that it fails at, and refuse loaders of no batch.

    Files that are not there keep their own error, see :func:`name_missing_files`.
    """
    build = runner.build_dataloader

    def build_dataloader(dataloader: Any, *args: Any, **kwargs: Any) -> Any:
        loader = build(dataloader, *args, **kwargs)
        _check_length(loader)
        name_parts(loader.dataset)
        return loader

    runner.build_dataloader = build_dataloader


def name_parts(dataset: Any) -> None:
    """Have a data set, and those that it wraps, name the file that it fails at."""
    for part in parts_of(dataset):
        if type(getattr(part, 'pipeline', None)) is Compose:
            part.pipeline = NamingCompose(part.pipeline, is_coco=hasattr(part, 'COCOAPI'))


class NamingCompose(Compose):
    """A data set's pipeline that names the record whose loading fails, or whose files do not go together.

    Args:
        pipeline (Compose): The pipeline; its list of transforms is shared.
        is_coco (bool): Whether the annotations state the sizes of the images. Other formats do so too, but are known
            to be wrong in places. Defaults to False.
    """

    def __init__(self, pipeline: Compose, is_coco: bool = False) -> None:
        self.transforms = pipeline.transforms
        self.is_coco = is_coco

    def __call__(self, data: dict) -> dict | None:
        for transform in self.transforms:
            had_image, had_map = ('img' in data, 'gt_seg_map' in data)
            try:
                data = transform(data)
            except (FileNotFoundError, MemoryError, UsageError, ImportError, NameError, AttributeError):
                raise  # the last three are no fault of the data
            except Exception as error:
                if not type(transform).__name__.startswith('Load'):
                    raise
                raise UsageError(_cannot_load(data, error)) from error
            if data is None:
                return None
            if self.is_coco and 'img' in data and not had_image:
                _check_size(data)
            if 'gt_seg_map' in data and not had_map:
                _check_map(data)
        return data


def parts_of(dataset: Any) -> Iterator[Any]:
    """The data set and those that it wraps."""
    yield dataset
    inner = [getattr(dataset, name, None) for name in ('dataset', '_dataset')]
    for part in (*inner, *(getattr(dataset, 'datasets', None) or ())):
        if part is not None:
            yield from parts_of(part)


def _check_length(loader: DataLoader) -> None:
    """An epoch of no batch would be over, and saved, at once."""
    if loader.batch_sampler is not None and len(loader.batch_sampler) == 0 and len(loader.dataset):
        raise UsageError(f'the {type(loader.dataset).__name__} has {len(loader.dataset)} images, not one batch of '
                         f'{loader.batch_size} for each process, and drop_last=True leaves out what is less. Give a '
                         'smaller batch_size, or drop_last=False.')


def _record(data: dict) -> str:
    number = f' (id {data["img_id"]})' if data.get('img_id') is not None else ''
    return f'the image "{data.get("img_path")}"{number}'


def _cannot_load(data: dict, error: Exception) -> str:
    if 'img' not in data:
        what, file = _record(data), data.get('img_path')
    elif data.get('seg_map_path'):
        what, file = f'the segmentation map "{data["seg_map_path"]}" of {_record(data)}', data['seg_map_path']
    else:
        what, file = f'the annotation of {_record(data)}', None
    size = f' ({os.path.getsize(file)} bytes)' if isinstance(file, str) and os.path.isfile(file) else ''
    reason = f'an object has no {error}' if isinstance(error, KeyError) else f'{type(error).__name__}: {error}'
    return (f'{what}{size} cannot be loaded: {reason}. ' + (
        'Is it damaged, or no image? Copy or download it again, or remove it from the data set.' if file else
        'Correct it, or leave the image out.'))


def _check_size(data: dict) -> None:
    stated, found = (data.get('height'), data.get('width')), data['img'].shape[:2]
    if None not in stated and stated != found:
        raise UsageError(f'{_record(data)} has height and width {found}, and its annotation says {stated}: boxes and '
                         'masks would be misplaced. Correct the annotation file, or put the right image there; a photo '
                         'that is rotated by its EXIF data must be saved rotated.')


def _check_map(data: dict) -> None:
    size, found = tuple(data.get('ori_shape') or ()), data['gt_seg_map'].shape
    if size != found:
        raise UsageError(f'the segmentation map "{data.get("seg_map_path")}" has the shape {found}, and '
                         f'{_record(data)} has height and width {size}. It must be one label per pixel and of the same '
                         'size: put the right file there, and turn a map of colours into labels.')
