import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'test_tools'))  # its stand-in for Slurm

from warm_python import warm_python  # noqa: E402


@pytest.fixture(scope='session')
def python():
    """The command that stands for ``python``."""
    with tempfile.TemporaryDirectory() as folder, warm_python(Path(folder)) as command:  # a socket's name is short
        yield command
