"""Ends that come from outside, in processes of their own: one line names them, and the last checkpoint is whole."""
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from mmscalenet.engine import is_whole

TOOLS = Path(__file__).resolve().parents[2] / 'tools'
TRAIN = (sys.executable, TOOLS / 'train.py')


def line_of(errors: str, start: str) -> str:
    assert 'Traceback' not in errors, errors
    line, = (line for line in errors.splitlines() if line.startswith(start))
    return line


@pytest.fixture
def begun(cls_fields, write_config, tool, tmp_path) -> Path:
    """A config of 200 epochs, three of which are done."""
    config = write_config(cls_fields)
    tool('train.py', config)
    config.write_text(config.read_text().replace("'max_epochs': 3", "'max_epochs': 200"))
    return config


def wait_for(path: Path, process: subprocess.Popen) -> None:
    for _ in range(1000):
        if path.exists():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    raise TimeoutError(path)


def hear_signals() -> None:
    """What a shell starts in the background ignores Ctrl-C, and so do its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize('number, name', [(signal.SIGTERM, 'SIGTERM'), (signal.SIGINT, 'Ctrl-C')])
def test_stopped_by_a_signal(number, name, begun, tmp_path):
    with subprocess.Popen([*TRAIN, begun, '--resume'], cwd=tmp_path, text=True, stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, preexec_fn=hear_signals) as process:
        wait_for(tmp_path / 'work_dirs/tiny/epoch_5.pth', process)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number, errors
    last = Path((tmp_path / 'work_dirs/tiny/last_checkpoint').read_text())
    assert line_of(errors, 'stopped by') == (f'stopped by {name}. Go on with --resume. The last checkpoint is {last}')
    assert is_whole(tmp_path / last)


@pytest.mark.parametrize('blocks, said', [(60, 'epoch_4.pth'), (4, '.log')], ids=['checkpoint', 'log'])
def test_no_room(blocks, said, begun, tmp_path, shell):
    """A limit on the size of files stands for a disk that is full: the same error of the same calls."""
    before = torch.load(tmp_path / 'work_dirs/tiny/epoch_3.pth', weights_only=False)['state_dict']
    done = shell('bash', '-c', f'ulimit -f {blocks}; exec {sys.executable} {TOOLS}/train.py {begun} --resume')
    line = line_of(done.stderr, 'error: ')
    assert done.returncode == 2 and 'could not be written: ' in line and said in line
    assert 'Make room. Go on with --resume. The last checkpoint is ' in line and line.endswith('epoch_3.pth')
    after = torch.load(tmp_path / 'work_dirs/tiny/epoch_3.pth', weights_only=False)['state_dict']
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert not (tmp_path / 'work_dirs/tiny/epoch_4.pth').exists() or blocks == 4


def test_work_dir_in_use_or_read_only(begun, tmp_path, shell):
    with subprocess.Popen([*TRAIN, begun, '--resume'], cwd=tmp_path, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL) as process:
        wait_for(tmp_path / 'work_dirs/tiny/epoch_4.pth', process)
        done = shell('python', TOOLS / 'train.py', begun, '--resume')
        assert process.poll() is None
        process.kill()
    assert done.returncode == 2
    line = line_of(done.stderr, 'error: ')
    assert f'work_dirs/tiny" is used by another run (process {process.pid} on ' in line
    done = shell('python', TOOLS / 'train.py', begun, '--work-dir', '/proc/mmscalenet')
    assert done.returncode == 2
    assert 'nothing can be written into the work directory "/proc/mmscalenet"' in line_of(done.stderr, 'error: ')
