"""Fixtures: ways to run the entry scripts."""
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.utils import ManagerMixin

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


@pytest.fixture
def shell(tmp_path):
    """Run a command of its own in ``tmp_path``, as a user would."""

    def run(*command: object, **env: str) -> subprocess.CompletedProcess:
        return subprocess.run([str(part) for part in command], cwd=tmp_path, capture_output=True, text=True,
                              timeout=240, env=os.environ | {'PYTHON': sys.executable, 'OMP_NUM_THREADS': '1'} | env)

    return run
