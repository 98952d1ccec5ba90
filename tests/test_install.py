"""tools/dev/install.py when it is stopped half-way: the real script in a folder of its own, without any index."""
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def command(tmp_path) -> list:
    """The installer of a copy of what it reads, so that its digest is under our control."""
    for name in ('tools/dev/install.py', 'setup.py'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / 'requirements', tmp_path / 'requirements')
    python = Path(sys.base_prefix) / 'bin' / f'python{sys.version_info[0]}.{sys.version_info[1]}'
    return [python, tmp_path / 'tools/dev/install.py', '--venv', tmp_path / 'venv']


def install(command: list) -> subprocess.CompletedProcess:
    """Gets as far as the first package, as nothing can be downloaded."""
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {'PIP_NO_INDEX': '1'})
    assert done.returncode and 'this step failed' in done.stderr and 'repeat the command' in done.stderr
    return done


def test_an_interrupted_environment_is_made_again(command, tmp_path):
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    while not (tmp_path / 'venv/bin/python').exists():  # made before pip is put in
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / 'venv/installed.sha256').exists()
    assert 'creating' in install(command).stdout  # which also shows that the lock went with the process
    assert 'creating' not in install(command).stdout  # what is whole is kept


def test_an_interrupted_update_leaves_no_stamp(command, tmp_path):
    stamp = tmp_path / 'venv/installed.sha256'
    stamp.parent.mkdir()
    stamp.write_text('the digest of other requirements')
    install(command)
    assert not stamp.exists()
