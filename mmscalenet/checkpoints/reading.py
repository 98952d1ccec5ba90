"""From a path or URL to what the checkpoint holds, without running anything that stands in it."""
import os
import stat
import tarfile
from collections.abc import Mapping
from hashlib import sha256
from http.client import HTTPException
from os import PathLike
from pathlib import Path
from urllib.parse import urlparse

import torch
from mmengine.fileio import get_local_path

from . import safe_pickle
from .archive import damage_of
from .errors import CheckpointError, one_line
from .sharded import INDEX, file_in, read_index, read_shards


def read_checkpoint(path: str | PathLike, trusted: bool = False) -> dict:
    """Read a checkpoint file.

    Args:
        path (str | PathLike): A local path, an http(s) URL (kept in torch.hub's folder of checkpoints), or a URI of a
            storage that mmengine knows. '.safetensors' is read as such, '.index.json' as transformers' list of the
            files beside it that hold the tensors, all else as written by ``torch.save``. Of a folder, as transformers
            saves a model, its checkpoint.
        trusted (bool): Whether the file may run code of its own, which unpickling in general allows. Only for files
            whose origin you trust, and only needed where the error of the safe way says so. Defaults to False.

    Returns:
        dict: What the file holds, tensors on the CPU. Most metadata objects are replaced by empty placeholders.

    Raises:
        CheckpointError: If there is no such file, or it is empty, truncated, no checkpoint, or would run code.
    """
    if not path:
        raise CheckpointError(f'checkpoint={path!r} names no file. Give a path or URL, or init_cfg=None to start from '
                              'random weights')
    path = str(path)
    if os.path.isdir(os.path.expanduser(path)):
        path = str(file_in(Path(path).expanduser()))
    content = _read(path, trusted)
    if not _without_query(path).endswith(INDEX):
        return content
    return read_shards(content, path, lambda file: _read(_beside(path, file), trusted))


def _beside(path: str, name: str) -> str:
    if '://' not in path:
        return str(Path(path).with_name(name))
    url, mark, query = path.partition('?')
    return f'{url.rpartition("/")[0]}/{name}{mark}{query}'


def _read(path: str, trusted: bool) -> dict:
    scheme = urlparse(path).scheme if '://' in path else ''
    if scheme in ('http', 'https'):
        return _read_url(path, trusted)
    if not scheme:
        return _read_local(Path(path).expanduser(), path, trusted)
    try:
        with get_local_path(path) as local:
            return _read_local(Path(local), path, trusted, _without_query(path))
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(f'{path}: cannot be fetched: {one_line(error)}') from error


def _read_url(url: str, trusted: bool) -> dict:
    target = _place_of(url)
    if target.is_file():
        return _read_local(target, f'{url} (kept at {target})', trusted)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # writes under a temporary name first, so processes that download at once do not disturb each other
        torch.hub.download_url_to_file(url, str(target), progress=False)
        _origin(target).write_text(_without_query(url))
    except (OSError, ValueError, HTTPException) as error:
        raise CheckpointError(f'{url}: download failed: {one_line(error)}') from error
    try:
        return _read_local(target, url, trusted)
    except CheckpointError:
        for path in (target, _origin(target)):  # or the next attempt would find the same bad file
            path.unlink(missing_ok=True)
        raise


def _place_of(url: str) -> Path:
    """The file that torch.hub would keep it in, so that one put there is used, unless we put another URL's there."""
    target = Path(torch.hub.get_dir()) / 'checkpoints' / Path(urlparse(url).path).name
    if _origin(target).is_file() and _origin(target).read_text() != _without_query(url):
        return target.with_name(f'{sha256(_without_query(url).encode()).hexdigest()[:8]}-{target.name}')
    return target


def _without_query(url: str) -> str:
    return url.partition('?')[0]


def _origin(target: Path) -> Path:
    return target.with_name(f'{target.name}.url')


def _read_local(path: Path, name: str, trusted: bool, origin: str | None = None) -> dict:
    """``origin`` tells the kind of file where the name of a local copy does not."""
    kind = (origin or path.name).lower()
    name = one_line(name, 1000)
    try:
        is_regular = stat.S_ISREG(path.stat().st_mode)
        if is_regular:  # a pipe would be waited for, a device may have no end
            with path.open('rb') as file:
                head = file.read(512)
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise CheckpointError(f'{name}: {one_line(getattr(error, "strerror", None) or error)}') from error
    if not is_regular:
        raise CheckpointError(f'{name}: no regular file but a folder, device, pipe or socket; give a file')
    if not head:
        raise CheckpointError(f'{name}: the file is empty; download or copy it again')
    if head.lstrip().lower().startswith((b'<!doctype', b'<html', b'<?xml')):
        raise CheckpointError(f'{name}: this is a web page (HTML), no checkpoint; download the file itself, e.g. by '
                              'the link named "raw" or "download"')
    if kind.endswith(INDEX):
        return read_index(path, name)
    content = _read_safetensors(path, name) if kind.endswith('.safetensors') \
        else _read_torch(path, name, head, trusted)
    if not isinstance(content, Mapping):
        raise CheckpointError(f'{name}: holds a {type(content).__name__}, not a dict of tensors; save '
                              '`model.state_dict()`, not the model')
    return content if isinstance(content, dict) else dict(content)  # a state dict carries its modules' versions


def _read_safetensors(path: Path, name: str) -> dict:
    try:
        from safetensors.torch import load_file
    except ImportError:
        raise CheckpointError(f'{name}: reading it needs safetensors (pip install safetensors)') from None
    try:
        return load_file(path)
    except Exception as error:
        raise CheckpointError(f'{name}: truncated or no safetensors file: {one_line(error)}') from error


def _read_torch(path: Path, name: str, head: bytes, trusted: bool) -> object:
    is_zip = head.startswith(b'PK\x03\x04')
    # torch's format before 1.6 is a row of pickles; its oldest, a tar, would be unpacked to disk
    if not (is_zip or head.startswith(b'\x80')) or tarfile.is_tarfile(path):
        raise CheckpointError(f'{name}: no checkpoint: it starts with {head[:16]!r}, not like a file of torch.save')
    try:
        # torch.load hands TorchScript archives over to torch.jit.load, which pickle_module does not reach
        if is_zip and 'constants.pkl' in torch._C.PyTorchFileReader(str(path)).get_all_records():
            raise CheckpointError(f'{name}: a TorchScript archive, which holds code; save its `state_dict()` instead')
        if is_zip and (damage := damage_of(path)):
            raise CheckpointError(f'{name}: truncated or damaged: {damage}; download or copy it again')
        options = {} if trusted else {'pickle_module': safe_pickle.within(path.stat().st_size)}
        return torch.load(path, map_location='cpu', weights_only=False, **options)
    except CheckpointError:
        raise
    except safe_pickle.UnsafePickleError as error:
        raise CheckpointError(
            f'{name}: refused, as reading it would call {one_line(error)}, which no checkpoint of weights needs: such '
            'files can run any code. If you trust its origin, say trusted=True: beside the checkpoint in the init_cfg '
            'of a ScaleNet backbone or a PretrainedHead, to tools/train.py and test.py with --cfg-options trusted=True '
            'for all other files, to grow.py and convert_backbone.py with --trusted'
        ) from None
    except Exception as error:
        raise CheckpointError(f'{name}: truncated, damaged or not written by torch.save; download or copy it again '
                              f'({type(error).__name__}: {one_line(error)})') from error
