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
_NAMES = {signal.SIGINT: 'Ctrl-C', signal.SIGTERM: 'SIGTERM'}


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
    received = []

    def stop(number: int, frame: object) -> None:
        received.append(number)
        raise KeyboardInterrupt

    # what is ignored, as under nohup, stays so
    previous = {number: signal.signal(number, stop) for number in _NAMES
                if alone and signal.getsignal(number) is not signal.SIG_IGN}
    logging.FileHandler.handleError = _raise_again
    try:
        yield
    except BaseException as error:
        if received:  # whatever it has become: mmengine takes it for a fault in the config while it formats that
            print(f'stopped by {_NAMES[received[0]]}. {_last(work_dir)}', file=sys.stderr, flush=True)
            sys.exit(128 + received[0])
        if isinstance(error, OSError):
            _name(error, work_dir)
        raise
    finally:
        del logging.FileHandler.handleError  # the parent's again
        for number, handler in previous.items():
            signal.signal(number, handler)


def _name(error: OSError, work_dir: str) -> None:
    place = f' "{error.filename}"' if error.filename else ''
    if error.errno in _FULL:
        raise UsageError(f'a file{place} could not be written: {error.strerror}. Make room. '
                         f'{_last(work_dir)}') from error
    if error.errno in _REFUSED:
        raise UsageError(f'the file or folder{place} cannot be used: {error.strerror}. {_last(work_dir)}') from error


def _raise_again(handler: logging.FileHandler, record: logging.LogRecord) -> None:
    """A log that cannot be written ends the run, instead of a traceback for each line of it."""
    error = sys.exc_info()[1]
    if isinstance(error, OSError):
        error.filename = error.filename or handler.baseFilename
        raise error
    super(logging.FileHandler, handler).handleError(record)


def _last(work_dir: str) -> str:
    path = Path(work_dir) / 'last_checkpoint'
    if not path.exists():
        return 'There is no checkpoint yet: begin again.'
    return f'Go on with --resume. The last checkpoint is {path.read_text()}'
