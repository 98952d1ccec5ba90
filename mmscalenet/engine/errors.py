"""Errors a user can mend: one line on stderr instead of a traceback."""
import functools
import os
import re
import sys
import time
from collections.abc import Callable

EXIT_CODE = 2  # as argparse: the command as given cannot be carried out


class UsageError(Exception):
    """What is wrong and how to mend it, in one line; says all there is to say, so no traceback is shown.

    Args:
        message (str): The line. Of the traceback that a loader's worker process sends in its place, the line is kept.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message.rpartition('UsageError: ')[2])


class ResumeError(ValueError):
    """What a run has beside its weights cannot go on in the grown model."""


def _name_scope(error: KeyError) -> None:
    """Raise a UsageError where mmengine did not find a class of ours, as the config names it without our scope."""
    from mmscalenet import registry  # not before there is an error: it imports mmengine
    name = match[1] if (match := re.search(r'(\w+) is not in the \S+ registry', str(error))) else None
    if any(name in one.module_dict for one in vars(registry).values() if getattr(one, 'scope', '') == 'mmscalenet'):
        raise UsageError(f"type='{name}' is a class of mmscalenet; write type='mmscalenet.{name}' in the config.") \
            from error


def one_line_errors(main: Callable[[], None]) -> Callable[[], None]:
    """Make ``main`` end with one line on stderr and exit code 2 at a :class:`UsageError`; others keep their traceback.

    Likewise where a file that the user named cannot be written.

    Of several processes on a machine the first one speaks. The others wait before they do, and so are only heard when
    the error is theirs alone: the launcher ends all of them as soon as one has ended.
    """

    @functools.wraps(main)
    def wrapper() -> None:
        try:
            try:
                main()
            except KeyError as error:
                _name_scope(error)
                raise
            except OSError as error:
                if not hasattr(error, 'unwritten'):
                    raise
                raise UsageError(f'"{error.unwritten}" cannot be written: {error.strerror}. Name another place.') \
                    from error
        except UsageError as error:
            if int(os.environ.get('LOCAL_RANK', 0)) > 0:
                time.sleep(20)  # on a machine with more to do, the first can be that late
            print(f'error: {" ".join(str(error).split())}', file=sys.stderr, flush=True)
            sys.exit(EXIT_CODE)

    return wrapper
