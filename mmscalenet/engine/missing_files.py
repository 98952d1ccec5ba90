"""A missing data set or weight file, named in one line."""
import os
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.error import URLError

from mmengine.config import Config

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
READERS = re.compile(r'mm\w+\.datasets\b|mmengine\.dataset\b')


@contextmanager
def name_missing_files(cfg: Config) -> Iterator[None]:
    """Turn an error caused by a file that is not there into a :class:`UsageError` that names it and its source.

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
        if isinstance(link, URLError):
            return _download_hint(link, cfg)
        if isinstance(link, (FileNotFoundError, NotADirectoryError)):
            found = ERRNO.findall(str(link))  # a worker process sends its whole traceback as the message
            path = link.filename or (found[-1] if found else None)
            return _hint(str(path), cfg) if path else _hint_of_message(str(link), cfg)
    if any(READERS.match(frame.f_globals.get('__name__', '')) for frame, _ in traceback.walk_tb(error.__traceback__)):
        for path in _declared_paths(cfg):
            if not os.path.exists(path):
                return _hint(path, cfg)
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _hint_of_message(message: str, cfg: Config) -> str:
    """mmengine names a missing checkpoint in its message only."""
    path = re.search(r'(\S+)\s+(can not be found|is not a checkpoint)', message)
    return _hint(path[1], cfg) if path else message


def _hint(path: str, cfg: Config) -> str:
    if path.endswith(WEIGHTS):
        return (f'the weights "{path}" do not exist. Put the file there or name another one, e.g. --cfg-options '
                'load_from=PATH, or model.backbone.init_cfg.checkpoint=PATH for a backbone alone.')
    # many data sets come in COCO's format: its class says nothing of the source
    types = ' '.join({str(dataset.get('type')) for dataset in _datasets(cfg)} - {'CocoDataset'})
    for text in (path, types):
        for pattern, source in SOURCES.items():
            if re.search(pattern, text, re.IGNORECASE):
                return f'the data "{path}" does not exist. {source}'
    return (f'the data "{path}" does not exist. Put it there, or name its place: --cfg-options '
            'train_dataloader.dataset.data_root=PATH val_dataloader.dataset.data_root=PATH')


def _download_hint(error: URLError, cfg: Config) -> str:
    urls = [url for url in _strings(cfg.get('model'), cfg.get('load_from')) if re.match(r'https?://', url)]
    what = ' or '.join(f'"{url}"' for url in urls) or 'a file'
    return (f'cannot download {what} ({error.reason}). Get it on a machine with internet, copy it here and name the '
            'copy, e.g. --cfg-options model.backbone.init_cfg.checkpoint=PATH')


def _datasets(cfg: Config) -> Iterator[dict]:
    """The data sets of all loaders, those inside wrappers included."""
    waiting = [(cfg.get(f'{split}_dataloader') or {}).get('dataset') for split in ('train', 'val', 'test')]
    while waiting:
        dataset = waiting.pop(0)
        if isinstance(dataset, dict):
            yield dataset
            waiting += [dataset.get('dataset'), *(dataset.get('datasets') or [])]


def _declared_paths(cfg: Config) -> Iterator[str]:
    for dataset in _datasets(cfg):
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
