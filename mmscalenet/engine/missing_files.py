"""A missing data set or weight file, or one that cannot be used, named in one line."""
import os
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.error import URLError

import torch
from mmengine.config import Config

from mmscalenet.checkpoints import CheckpointError

from .cli import datasets
from .errors import UsageError

# What a path or a data set's class is recognised by, and where its files come from.
SOURCES = {
    r'fashion[-_]?scenes': 'Make it: python tools/dataset_converters/fashion_scenes.py',
    r'fashion[-_]?mnist': 'Make it: python tools/dataset_converters/prepare_fashion_mnist.py',
    r'\bade\b|ade20k|adechallenge':
    'Get ADEChallengeData2016.zip from http://sceneparsing.csail.mit.edu and unpack it into data/ade/',
    r'coco': 'Get the images and annotations from https://cocodataset.org/#download and unpack them into data/coco/',
    r'imagenet|ilsvrc':
    'Get ILSVRC2012 from https://image-net.org/download-images and unpack it into data/imagenet/train and /val',
}
WEIGHTS = ('.pth', '.pt', '.bin', '.safetensors', '.npz')
ERRNO = re.compile(r"No such file or directory: '([^']+)'")
OURS = re.compile(r'mmscalenet.(models|expansion|engine.optimizers).')
READERS = re.compile(r'mm\w+\.datasets\b|mmengine\.dataset\b')


@contextmanager
def name_missing_files(cfg: Config) -> Iterator[None]:
    """Turn an error caused by a file that is not there into a :class:`UsageError` that names it and its source.

    Likewise weights and arguments of a backbone that are refused, and data sets in which nothing is found.

    Raises:
        UsageError: Instead of such an error. Any other error passes as it is.
    """
    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        message = _explain(error, cfg)
        if message is None:
            raise
        raise UsageError(message) from error


def _explain(error: BaseException, cfg: Config) -> str | None:
    for link in _chain(error):
        if hasattr(link, 'unwritten'):
            return None
        if isinstance(link, URLError):
            return _download_hint(link, str(error), cfg)
        if isinstance(link, (FileNotFoundError, NotADirectoryError)):
            found = ERRNO.findall(str(link))  # a worker process sends its whole traceback as the message
            path = link.filename or (found[-1] if found else None)
            return _hint(str(path), cfg) if path else _hint_of_message(str(link), cfg)
    if isinstance(error, CheckpointError):
        return str(error)
    if (refusal := _refusal(error)) is not None:
        return refusal
    readers = [frame.f_locals.get('self') for frame, _ in traceback.walk_tb(error.__traceback__)
               if READERS.match(frame.f_globals.get('__name__', ''))]
    if readers:
        for path in _declared_paths(cfg):
            if not os.path.exists(path):
                return _hint(path, cfg)
        if 'need at least one array to concatenate' in str(error):  # what an empty data set of mmengine ends in
            return _empty_hint(readers[-1])
    return None


def _refusal(error: Exception) -> str | None:
    """What our models say of arguments they do not take, without the places of the config's registry around it."""
    first = error
    while first.__cause__ or (first.__context__ and not first.__suppress_context__):
        first = first.__cause__ or first.__context__
    frames = traceback.extract_tb(first.__traceback__)
    if isinstance(first, (TypeError, ValueError)) and frames and OURS.search(frames[-1].filename) \
            and frames[-1].line.startswith('raise '):
        return f'the config is refused: {first}'
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it was raised for; not one that was handled and done with when it came."""
    while error is not None:
        yield error
        context = error.__context__
        # mmengine's builders raise anew, with the old message inside the new one
        of_it = context is not None and not error.__suppress_context__ and str(context) in str(error)
        error = error.__cause__ or (context if of_it else None)


def _hint_of_message(message: str, cfg: Config) -> str:
    """mmengine names a missing checkpoint in its message only."""
    path = re.search(r'(\S+)\s+(can not be found|is not a checkpoint)', message)
    return _hint(path[1], cfg) if path else message


def _hint(path: str, cfg: Config) -> str:
    for sign, what in (('\\', 'backslashes, which separate no folders here'), ('\ufeff', 'a byte-order mark')):
        if sign in path:
            return (f'the file {path!r} does not exist. Its name has {what}: correct it in the annotation file that '
                    'lists it.')
    if path.endswith(WEIGHTS):
        return f'the weights "{path}" do not exist. Put the file there{_or_name(cfg, path)}'
    # many data sets come in COCO's format: its class says nothing of the source
    types = ' '.join({str(dataset.get('type')) for dataset in datasets(cfg)} - {'CocoDataset'})
    for text in (path, types):
        for pattern, source in SOURCES.items():
            if re.search(pattern, text, re.IGNORECASE):
                return f'the data "{path}" does not exist. {source}'
    return (f'the data "{path}" does not exist. Put it there, or name its place: --cfg-options '
            'train_dataloader.dataset.data_root=PATH val_dataloader.dataset.data_root=PATH')


def _or_name(cfg: Config, *paths: str) -> str:
    """The end of a sentence: how to name another file in every place of the config where one of ``paths`` stands."""
    keys = [key for path in paths for name in ('model', 'load_from') for key in _keys(cfg.get(name), path, name)]
    return f', or name another one: --cfg-options {" ".join(f"{key}=PATH" for key in keys)}' if keys else '.'


def _keys(value: object, path: str, name: str) -> list[str]:
    """The keys below ``name``, as --cfg-options takes them, under which ``path`` stands."""
    if isinstance(value, str):
        return [name] if os.path.expanduser(value) == path or value == path else []
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    return [key for part, entry in entries for key in _keys(entry, path, f'{name}.{part}')]


def _download_hint(error: URLError, message: str, cfg: Config) -> str:
    urls = dict.fromkeys(url for url in _strings(cfg.get('model'), cfg.get('load_from')) if '://' in url)
    urls = [url for url in urls if url in message] or urls  # our reader names the one, mmengine's does not
    what = ' or '.join(f'"{url}"' for url in urls) or 'a file'
    return (f'cannot download {what} ({error.reason}). Get it on a machine with internet and put it into '
            f'{torch.hub.get_dir()}/checkpoints{_or_name(cfg, *urls)}')


def _empty_hint(dataset: object) -> str:
    settings = {name: getattr(dataset, name, None) for name in ('ann_file', 'data_prefix', 'img_suffix', 'filter_cfg')}
    return (f'the {type(dataset).__name__} is empty: no image is found, or none with an object of its classes. Look at '
            f'{", ".join(f"{name}={value!r}" for name, value in settings.items() if value)}.')


def _declared_paths(cfg: Config) -> Iterator[str]:
    for dataset in datasets(cfg):
        root = dataset.get('data_root') or ''
        for path in ('', *_strings(dataset.get('data_prefix'), dataset.get('ann_file'))):
            path = os.path.join(root, path)
            if path and '://' not in path:
                yield path


def _strings(*values: object) -> Iterator[str]:
    for value in values:
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            yield from _strings(*value.values())
        elif isinstance(value, (list, tuple)):
            yield from _strings(*value)
