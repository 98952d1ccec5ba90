"""Trainings that are killed, and go on."""
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from mmengine.fileio import put_text

from mmscalenet.engine import is_whole

TOOLS = Path(__file__).resolve().parents[2] / 'tools'


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_half_written(name: str) -> None:
    write = Path.write_bytes

    def write_bytes(path: Path, data: bytes) -> int:
        if path.name.startswith(f'.{name}.'):
            write(path, data[:len(data) // 2])
            kill()
        return write(path, data)

    Path.write_bytes = write_bytes


def die_before_rename(name: str) -> None:
    replace = os.replace
    os.replace = lambda source, target: kill() if Path(target).name == name else replace(source, target)


def die_after_rename(name: str) -> None:
    replace = os.replace
    os.replace = lambda source, target: (replace(source, target), Path(target).name == name and kill())


def final_weights(work_dir: Path) -> dict:
    return torch.load(work_dir / 'epoch_3.pth', map_location='cpu', weights_only=False)['state_dict']


UNHARMED = {}


@pytest.fixture
def unharmed(config, tool, tmp_path) -> dict:
    """The final weights of the training that nobody kills; it runs once."""
    if not UNHARMED:
        tool('train.py', config, '--work-dir', 'unharmed')
        UNHARMED.update(final_weights(tmp_path / 'unharmed'))
    return UNHARMED


@pytest.fixture
def config(cls_fields, write_config) -> Path:
    """Three epochs of which only the last checkpoint is kept: nothing to fall back on but it and the best."""
    cls_fields['default_hooks']['checkpoint'] = dict(
        type='CheckpointHook', interval=1, max_keep_ckpts=1, save_best='auto')
    return write_config(cls_fields)


@pytest.mark.parametrize(('moment', 'file', 'resumed'), [
    (die_half_written, 'epoch_1.pth', None),
    (die_half_written, 'epoch_2.pth', 'epoch_1.pth'),
    (die_after_rename, 'epoch_2.pth', 'epoch_2.pth'),
    (die_before_rename, 'last_checkpoint', None),
    (die_half_written, 'best_accuracy_top1_epoch_1.pth', 'epoch_1.pth'),
])
def test_kill_during_a_save(moment, file, resumed, config, unharmed, tool, tmp_path, capfd):
    """Whatever is being written at the kill, the last whole checkpoint is found, and the end is that of no kill."""

    def doomed() -> None:
        moment(file)
        tool('train.py', config, '--work-dir', 'killed')

    put_text('', str(tmp_path / 'note'))  # mmengine now holds a local backend that it made before ours
    process = multiprocessing.get_context('fork').Process(target=doomed)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    work_dir = tmp_path / 'killed'
    assert all(is_whole(path) for path in work_dir.glob('*.pth'))
    if file == 'last_checkpoint':
        assert not (work_dir / 'last_checkpoint').exists()
        resumed = 'epoch_1.pth'

    capfd.readouterr()
    tool('train.py', config, '--work-dir', 'killed', '--resume')
    output = capfd.readouterr().out
    expected = f'going on from {work_dir / resumed}' if resumed else 'no checkpoint in killed yet'
    assert f'resume: {expected}' in output.replace('from killed/', f'from {work_dir}/')
    assert not list(work_dir.glob('.*.tmp'))
    assert (work_dir / 'last_checkpoint').read_text() == str(work_dir / 'epoch_3.pth')
    assert [path.name for path in work_dir.glob('epoch_*.pth')] == ['epoch_3.pth'], 'more kept than asked for'
    assert len(list(work_dir.glob('best_*.pth'))) == 1

    for name, value in final_weights(work_dir).items():
        assert torch.equal(value, unharmed[name]), name


def test_kill_from_outside(config, tool, tmp_path, capfd):
    """A process of its own, killed from outside while a checkpoint is on its way; a larger one, to be caught at it."""
    options = ['train.py', config, '--no-validate', '--cfg-options', 'model.backbone.arch.feedforward_channels=50000']
    process = subprocess.Popen([sys.executable, TOOLS / options[0], *options[1:], 'train_cfg.max_epochs=99'],
                               cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               env=os.environ | {'OMP_NUM_THREADS': '1'})
    work_dir = tmp_path / 'work_dirs/tiny'
    try:
        while not (list(work_dir.glob('.epoch_*.pth.*.tmp')) and list(work_dir.glob('epoch_*.pth'))):
            assert process.poll() is None, 'the training ended before it could be killed'
            time.sleep(0.001)
    finally:
        process.kill()
        process.wait()
    kept = list(work_dir.glob('epoch_*.pth'))
    assert kept and all(is_whole(path) for path in kept)
    epoch = max(int(path.stem.split('_')[1]) for path in kept)
    tool(*options, f'train_cfg.max_epochs={epoch + 1}', '--resume')
    assert f'resumed epoch: {epoch}, ' in capfd.readouterr().out
    assert (work_dir / f'epoch_{epoch + 1}.pth').exists() and not list(work_dir.glob('.*.tmp'))


def test_damaged_checkpoint_is_passed_over(cls_fields, write_config, tool, tmp_path, capfd):
    config = write_config(cls_fields)
    tool('train.py', config)
    work_dir = tmp_path / 'work_dirs/tiny'
    newest = work_dir / 'epoch_3.pth'
    newest.write_bytes(newest.read_bytes()[:-100])
    capfd.readouterr()
    tool('train.py', config, '--resume', 'auto')
    output = capfd.readouterr().out
    assert f'warning: {newest} is damaged and passed over' in output
    assert 'resumed epoch: 2, iter: 4' in output
    assert is_whole(newest)


def test_resume_from_a_named_checkpoint(cls_fields, write_config, tool, tmp_path, capfd):
    config = write_config(cls_fields)
    tool('train.py', config)
    tool('train.py', config, '--resume', tmp_path / 'work_dirs/tiny/epoch_1.pth', '--work-dir', 'other')
    assert 'resumed epoch: 1, iter: 2' in capfd.readouterr().out
    assert not (tmp_path / 'other/epoch_1.pth').exists() and (tmp_path / 'other/epoch_3.pth').exists()


def test_a_run_at_its_end_says_so(cls_fields, write_config, tool, tmp_path, capfd):
    config = write_config(cls_fields)
    tool('train.py', config, '--no-validate', '--cfg-options', 'train_cfg.max_epochs=1')
    assert 'the run is at its end' not in ''.join(capfd.readouterr())
    tool('train.py', config, '--no-validate', '--resume', '--cfg-options', 'train_cfg.max_epochs=1')
    assert 'resume: the run is at its end, iteration 2 of 2, and nothing is left' in ''.join(capfd.readouterr())
