"""A work directory belongs to one run at a time."""
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .distributed import rank_in
from .errors import UsageError
from .files import made_in


@contextmanager
def one_run(work_dir: str, launcher: str = 'none') -> Iterator[None]:
    """Keep other runs out of ``work_dir``: two would write the same checkpoints over each other.

    Args:
        work_dir (str): The work directory.
        launcher (str): What started this process, and maybe others of the same run. Defaults to 'none'.

    Of several processes the first keeps it for all. The mark is a lock on the file ``.running``, which is gone with the
    process, however that ends.

    Raises:
        UsageError: If another process has it; or if nothing can be written there.
    """
    if rank_in(launcher):
        yield
        return
    path = Path(work_dir) / '.running'
    with made_in(work_dir, 'work directory', '--work-dir'):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, 'a+')  # noqa: SIM115  open as long as the run goes on
    with file:
        try:
            # lockf, not flock: that one would also be held by the workers of a loader whose run was killed
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise UsageError(f'the work directory "{work_dir}" is used by another run ({file.read().strip()}): wait '
                             'for its end, or name another one with --work-dir.') from None
        except OSError:
            pass  # a file system without locks
        file.truncate(0)
        file.write(f'process {os.getpid()} on {socket.gethostname()}\n')
        file.flush()
        yield
