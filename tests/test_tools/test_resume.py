"""Trainings that are killed, and go on."""
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from mmengine.fileio import put_text
from mmengine.utils import digit_version

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


@pytest.mark.skipif(digit_version(torch.__version__) < digit_version('2.2'), reason='compiles no such model')
def test_a_compiled_run_is_resumed_and_tested(cls_fields, write_config, tool, tmp_path):
    """mmengine compiles the optimizer's step, too, which leaves marks on what it keeps."""
    config = write_config(cls_fields | dict(compile=dict(backend='eager')))
    tool('train.py', config)
    tool('train.py', config, '--resume', tmp_path / 'work_dirs/tiny/epoch_1.pth', '--work-dir', 'other')
    one, other = final_weights(tmp_path / 'work_dirs/tiny'), final_weights(tmp_path / 'other')
    assert all(value.equal(other[name]) for name, value in one.items())
    tool('test.py', config, 'other/epoch_3.pth')


@pytest.mark.parametrize('runner_type', ['Runner', 'FlexibleRunner'])
def test_resume_from_a_checkpoint_that_the_config_names(runner_type, cls_fields, write_config, tool, tmp_path, capfd):
    tool('train.py', write_config(cls_fields))
    fields = cls_fields | dict(runner_type=runner_type, resume=str(tmp_path / 'work_dirs/tiny/epoch_1.pth'))
    tool('train.py', write_config(fields, 'other'))
    assert 'resumed epoch: 1, iter: 2' in capfd.readouterr().out
    one, other = (final_weights(tmp_path / f'work_dirs/{name}') for name in ('tiny', 'other'))
    assert not (tmp_path / 'work_dirs/other/epoch_1.pth').exists()
    assert all(value.equal(other[name]) for name, value in one.items())


def test_resume_wins_over_the_start_of_the_run(cls_fields, write_config, tool, tmp_path, capfd):
    """A config that tools/grow.py wrote has a load_from."""
    tool('train.py', write_config(cls_fields))
    first, second = (str(tmp_path / f'work_dirs/tiny/epoch_{epoch}.pth') for epoch in (1, 2))
    tool('train.py', write_config(cls_fields | dict(load_from=first, resume=second), 'other'))
    assert 'resumed epoch: 2, iter: 4' in capfd.readouterr().out
    assert not (tmp_path / 'work_dirs/other/epoch_2.pth').exists()


def test_a_run_at_its_end_says_so(cls_fields, write_config, tool, tmp_path, capfd):
    config = write_config(cls_fields)
    tool('train.py', config, '--no-validate', '--cfg-options', 'train_cfg.max_epochs=1')
    assert 'the run is at its end' not in ''.join(capfd.readouterr())
    tool('train.py', config, '--no-validate', '--resume', '--cfg-options', 'train_cfg.max_epochs=1')
    assert 'resume: the run is at its end, iteration 2 of 2, and nothing is left' in ''.join(capfd.readouterr())


@pytest.fixture
def with_best(cls_fields, write_config, tool, tmp_path):
    """A config and the folder of its run, whose next score will be better than the best one."""
    cls_fields['default_hooks']['checkpoint'] = dict(type='CheckpointHook', interval=1, save_best='accuracy/top1')
    config = write_config(cls_fields)
    tool('train.py', config)
    folder = tmp_path / 'work_dirs/tiny'
    for path in folder.glob('epoch_*.pth'):
        checkpoint = torch.load(path, weights_only=False)
        assert checkpoint['message_hub']['runtime_info']['best_ckpt'] in map(str, folder.glob('best_*.pth'))
        checkpoint['message_hub']['runtime_info']['best_score'] = -1.
        torch.save(checkpoint, path)
    return config, folder


def test_a_fork_leaves_the_best_file_of_the_other_run(with_best, tool, tmp_path):
    config, folder = with_best
    before = {path.name: path.read_bytes() for path in folder.glob('*.pth')}
    tool('train.py', config, '--resume', folder / 'epoch_2.pth', '--work-dir', 'fork')
    assert {path.name: path.read_bytes() for path in folder.glob('*.pth')} == before
    best, = Path('fork').glob('best_*.pth')
    info = torch.load('fork/epoch_3.pth', weights_only=False)['message_hub']['runtime_info']
    assert info['best_score'] >= 0, 'looked for anew'


def test_a_copied_folder_has_a_best_file_of_its_own(with_best, tool, tmp_path):
    config, folder = with_best
    before = {path.name: path.read_bytes() for path in folder.glob('*.pth')}
    copied = shutil.copytree(folder, tmp_path / 'copied')
    for name in ('epoch_3.pth', 'last_checkpoint'):
        (copied / name).unlink()
    tool('train.py', config, '--resume', '--work-dir', copied)
    assert {path.name: path.read_bytes() for path in folder.glob('*.pth')} == before
    assert len(list(copied.glob('best_*.pth'))) == 1, 'the old one is gone, as in a run that was not moved'


def test_the_curve_of_a_run_in_epochs_has_no_point_more(cls_fields, write_config, tool, tmp_path):
    """Resumed in the middle of an epoch."""
    cls_fields['default_hooks']['checkpoint'] = dict(type='CheckpointHook', by_epoch=False, interval=3)
    cls_fields['custom_hooks'] = [dict(type='mmscalenet.CurveHook')]
    config = write_config(cls_fields)
    tool('train.py', config, '--work-dir', 'whole')
    shutil.copytree('whole', 'cut')
    curve = Path('cut/curve.jsonl')
    curve.write_text(''.join(curve.read_text().splitlines(keepends=True)[:2]))  # before the first step, after epoch 1
    for name in ('iter_6.pth', 'last_checkpoint'):
        Path('cut', name).unlink()
    tool('train.py', config, '--resume', '--work-dir', 'cut')
    steps = [[json.loads(line)['step'] for line in Path(name, 'curve.jsonl').read_text().splitlines()]
             for name in ('whole', 'cut')]
    assert steps == [[0, 2, 4, 6]] * 2
