"""Fixtures: ways to run the entry scripts."""
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from mmengine.utils import ManagerMixin
from warm_python import warm_python

TOOLS = Path(__file__).resolve().parents[1] / 'tools'


def managers(cls: type = ManagerMixin) -> list[type]:
    """The classes of which mmengine keeps instances by name: loggers, visualizers, scopes, ..."""
    found = [cls]
    for sub in cls.__subclasses__():
        found += managers(sub)
    return found


@pytest.fixture
def tool(monkeypatch, tmp_path):
    """Run an entry script in this process, which saves the seconds that its imports take."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('LOCAL_RANK', '0')

    def run(script: str, *args: object) -> None:
        monkeypatch.setattr(sys, 'argv', [script, *map(str, args)])
        for cls in managers():  # a fresh process has none
            monkeypatch.setattr(cls, '_instance_dict', type(cls._instance_dict)())
        runpy.run_path(str(TOOLS / script), run_name='__main__')

    return run


@pytest.fixture(scope='session')
def python() -> Iterator[Path]:
    """A ``python`` that starts at once. It is not the process that runs: signals reach it alone."""
    with tempfile.TemporaryDirectory() as folder, warm_python(Path(folder)) as command:  # a socket's name is short
        yield command


@pytest.fixture
def shell(tmp_path, python):
    """Run a command of its own in ``tmp_path``, as a user would; ``python`` starts at once."""
    warm = dict(PATH=f'{python.parent}:{os.environ["PATH"]}', PYTHON=str(python), PYTHON_EXEC=str(python))

    def run(*command: object, **env: str) -> subprocess.CompletedProcess:
        return subprocess.run([str(part) for part in command], cwd=tmp_path, capture_output=True, text=True,
                              timeout=240, env=os.environ | warm | {'OMP_NUM_THREADS': '1'} | env)

    return run
