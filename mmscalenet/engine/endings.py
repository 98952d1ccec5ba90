"""Ends of a training that lie in nobody's config: a full disk, Ctrl-C, a signal of the queue."""
import errno
import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import UsageError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)


class _Stopped(BaseException):
    """SIGTERM came."""


@contextmanager
def name_endings(work_dir: str, alone: bool) -> Iterator[None]:
    """Say in one line why a training ended, and from where ``--resume`` goes on.

    Args:
        work_dir (str): Its work directory.
        alone (bool): Whether it is one process. Several are ended by what started them, and one that waits for the
            others could not answer a signal.

    Raises:
        UsageError: Where a file cannot be written.
        SystemExit: With 130 after Ctrl-C and 143 after SIGTERM, as in a shell.
    """
    logging.FileHandler.handleError = _raise_again
    previous = signal.signal(signal.SIGTERM, _stop) if alone else None
    try:
        yield
    except KeyboardInterrupt:
        _exit('Ctrl-C', work_dir, signal.SIGINT)
    except _Stopped:
        _exit('SIGTERM', work_dir, signal.SIGTERM)
    except OSError as error:
        place = f' "{error.filename}"' if error.filename else ''
        if error.errno in _FULL:
            raise UsageError(f'a file{place} could not be written: {error.strerror}. Make room, and go on with '
                             f'--resume. {_last(work_dir)}') from error
        if error.errno in _REFUSED:
            raise UsageError(f'the file or folder{place} cannot be used: {error.strerror}. {_last(work_dir)}'
                             ) from error
        raise
    finally:
        del logging.FileHandler.handleError  # the parent's again
        if alone:
            signal.signal(signal.SIGTERM, previous)


def _stop(*_: object) -> None:
    raise _Stopped


def _raise_again(handler: logging.FileHandler, record: logging.LogRecord) -> None:
    """A log that cannot be written ends the run, instead of a traceback for each line of it."""
    error = sys.exc_info()[1]
    if isinstance(error, OSError):
        error.filename = error.filename or handler.baseFilename
        raise error
    super(logging.FileHandler, handler).handleError(record)


def _exit(what: str, work_dir: str, number: int) -> None:
    print(f'stopped by {what}; go on with --resume. {_last(work_dir)}', file=sys.stderr, flush=True)
    sys.exit(128 + number)


def _last(work_dir: str) -> str:
    path = Path(work_dir) / 'last_checkpoint'
    return f'The last checkpoint is {path.read_text()}' if path.exists() else 'There is no checkpoint yet.'
