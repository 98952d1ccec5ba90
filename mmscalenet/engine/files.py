"""Files that appear under their final name only when they are whole."""
import errno
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmengine.fileio import LocalBackend

from mmscalenet.checkpoints.archive import damage_of

from .errors import UsageError

TEMPORARY = re.compile(r'\..+\.\d+\.tmp')


@contextmanager
def _in_writing(path: Path) -> Iterator[None]:
    """Note on the system's errors that they came of writing ``path``; :func:`.one_line_errors` makes lines of them."""
    try:
        yield
    except OSError as error:
        error.unwritten = str(path)
        raise


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Give a temporary path in the folder of ``path``; what was written there gets its final name at the end.

    Bytes reach the disk before the name does, so neither a killed process nor a power cut leaves half a file.
    """
    path = Path(path)
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    with _in_writing(path):
        if path.is_dir():  # or it would show at the end
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
    try:
        yield temporary
        with open(temporary, 'rb') as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno is not None:  # of a disk that is full the system names no file
            error.filename = error.filename or str(path)
        if str(error.filename) in (str(path), str(temporary)):
            error.unwritten = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """Give a temporary folder beside ``path``, which must not exist; it gets that name when all is in it.

    Paths in its files that are relative to it are right before it has its name.
    """
    path = Path(path)
    with _in_writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = tempfile.TemporaryDirectory(prefix=f'.{path.name}.', dir=path.parent)
    with temporary as folder:
        yield Path(folder)
        for file in Path(folder).iterdir():
            with open(file, 'rb') as content:
                os.fsync(content.fileno())
        os.chmod(folder, 0o755)  # a temporary one is its owner's alone
        os.rename(folder, path)
        os.mkdir(folder)  # for the context to remove


@contextmanager
def made_in(folder: str | Path, what: str, option: str) -> Iterator[None]:
    """Turn an error of the system, met where something is made in a folder that the user named, into a line.

    Raises:
        UsageError: Names ``what`` is meant, the folder, the reason and the ``option``.
    """
    try:
        yield
    except OSError as error:
        raise UsageError(f'nothing can be written into the {what} "{folder}" ({error.strerror}): name another one with '
                         f'{option}.') from error


def check_folder(folder: str | Path, what: str, option: str) -> None:
    """See, before work begins, that something can be written into a folder; it is made if it is not there.

    Raises:
        UsageError: As :func:`made_in`.
    """
    with made_in(folder, what, option):
        Path(folder).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()


class WholeFileBackend(LocalBackend):
    """mmengine's local storage, except that no reader ever sees a file half written."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        with whole_file(filepath) as temporary:
            temporary.write_bytes(obj)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        self.put(obj.encode(encoding), filepath)


def remove_temporary(folder: str | Path) -> None:
    """Delete what writers that were killed left in ``folder``."""
    for path in Path(folder).glob('.*.tmp'):
        if TEMPORARY.fullmatch(path.name):
            path.unlink(missing_ok=True)


def is_whole(path: str | Path) -> bool:
    """Whether a checkpoint that ``torch.save`` wrote (a zip file) is complete, checksums included."""
    return not damage_of(path)


def check_checkpoint(path: str, what: str) -> None:
    """Refuse a checkpoint named by the user that is missing or damaged; URLs are left to mmengine.

    Raises:
        UsageError: Names the file and what to do.
    """
    if '://' in path:
        return
    is_safetensors = path.lower().endswith('.safetensors')  # damage shows when it is read
    if not os.path.isfile(path):
        raise UsageError(f'{what} "{path}" does not exist. Name a file that tools/train.py wrote (epoch_N.pth or '
                         'iter_N.pth in its work directory) or one that you downloaded.')
    with open(path, 'rb') as file:
        start = file.read(2)
    # before torch 1.6 a checkpoint was a bare pickle; its integrity shows only while it is read
    if not (is_safetensors or start[:1] == b'\x80' or (start == b'PK' and is_whole(path))):
        raise UsageError(f'{what} "{path}" ({os.path.getsize(path)} bytes) is no complete PyTorch checkpoint: it is '
                         'damaged, or its copy or download broke off. Fetch it again or name another one.')
