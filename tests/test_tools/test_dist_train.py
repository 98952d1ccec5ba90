"""Data-parallel training by the shell scripts: two real processes, CPU and gloo where there is no GPU."""
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from copy import deepcopy
from pathlib import Path

import pytest
import torch

from mmscalenet.engine import is_whole

TOOLS = Path(__file__).resolve().parents[2] / 'tools'
no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason='asks for no GPU')


@pytest.fixture
def two_steps(cls_fields) -> dict:
    """Two SGD steps on the first 8 images in order; the momentum buffers hold the gradients.

    In the first step the adapters' second half is still 0 and so are the gradients of their first half.
    """
    cls_fields['train_dataloader']['sampler'] = dict(type='DefaultSampler', shuffle=False)
    cls_fields['train_dataloader']['batch_size'] = 8
    cls_fields['train_cfg'] = dict(by_epoch=True, max_epochs=2)
    cls_fields['optim_wrapper']['optimizer']['lr'] = 0.5
    # mmpretrain starts the head at 0, which would keep the backbone's gradients 0 too
    cls_fields['model']['head']['init_cfg'] = dict(type='Normal', layer='Linear', std=0.5)
    for name in ('val_dataloader', 'val_cfg', 'val_evaluator'):
        del cls_fields[name]
    return cls_fields


SWIN = dict(
    backbone=dict(type='mmscalenet.ScaleNetSwin', scale=2, img_size=32, patch_size=2, window_size=4, drop_path_rate=0.,
                  arch=dict(embed_dims=8, depths=[2, 2], num_heads=[1, 2]), out_indices=(1, )),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=2, in_channels=16))


def gradients(checkpoint: Path) -> dict[int, torch.Tensor]:
    states = torch.load(checkpoint, map_location='cpu', weights_only=False)['optimizer']['state']
    return {index: state['momentum_buffer'] for index, state in states.items()}


def assert_same_gradients(one: dict, two: dict) -> None:
    assert one.keys() == two.keys() and len(one) > 10
    assert all(grad.abs().sum() > 0 for grad in one.values()), 'nothing to compare'
    for index, grad in one.items():
        torch.testing.assert_close(two[index], grad, rtol=0, atol=max(1e-4 * grad.abs().max().item(), 1e-6))


@pytest.fixture
def joint_gradients(two_steps, write_config, tool, tmp_path) -> dict[int, torch.Tensor]:
    """Of one process that gets all images at once."""
    tool('train.py', write_config(two_steps, 'joint'))
    return gradients(tmp_path / 'work_dirs/joint/epoch_2.pth')


def halves(fields: dict, with_cp: bool | str) -> dict:
    fields = deepcopy(fields)
    fields['train_dataloader']['batch_size'] = 4
    fields['model']['backbone']['with_cp'] = with_cp
    return fields


def check(result: subprocess.CompletedProcess, work_dir: Path, expected: dict) -> None:
    assert result.returncode == 0, result.stderr[-3000:]
    log = next(work_dir.rglob('*.log')).read_text()
    assert 'Distributed training: True' in log and 'GPU number: 2' in log
    assert_same_gradients(expected, gradients(work_dir / 'epoch_2.pth'))


@pytest.mark.parametrize('with_cp', [False, *(pytest.param(way, marks=pytest.mark.slow) for way in (True, 'light'))])
def test_two_processes_equal_the_joint_batch(with_cp, joint_gradients, two_steps, write_config, shell, tmp_path):
    result = shell('bash', TOOLS / 'dist_train.sh', write_config(halves(two_steps, with_cp)), 2)
    check(result, tmp_path / 'work_dirs/tiny', joint_gradients)


# Stands for a cluster of one machine: checks what it is asked for and starts the tasks with Slurm's variables.
SRUN = """#!/bin/bash
echo "$@" > srun_arguments
while [[ "$1" == -* ]]; do [ "$1" = -p ] && shift; shift; done
for rank in 0 1; do
    SLURM_PROCID=$rank SLURM_LOCALID=$rank SLURM_NTASKS=2 SLURM_NODELIST=here "$@" &
    tasks="$tasks $!"
done
for task in $tasks; do wait $task || exit 1; done
"""


@pytest.fixture
def swin(two_steps) -> None:
    two_steps['model'].update(deepcopy(SWIN))


@pytest.fixture
def slurm(tmp_path) -> dict[str, str]:
    """The environment of a cluster of one machine."""
    for name, text in (('srun', SRUN), ('scontrol', '#!/bin/bash\necho localhost\n')):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    return dict(GPUS='2', GPUS_PER_NODE='0', CPUS_PER_TASK='1', SRUN_ARGS='--quiet --time=10', MASTER_PORT=free_port(),
                PATH=f'{tmp_path}:{os.environ["PATH"]}')


def free_port() -> str:
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        return str(server.getsockname()[1])


@no_gpu
def test_slurm_without_gpu(swin, joint_gradients, two_steps, write_config, shell, slurm, tmp_path):
    """The same with Swin under Slurm."""
    result = shell('bash', TOOLS / 'slurm_train.sh', 'short', 'job', write_config(halves(two_steps, True)), 'slurm_dir',
                   **slurm)
    check(result, tmp_path / 'slurm_dir', joint_gradients)
    asked = (tmp_path / 'srun_arguments').read_text()
    assert asked.startswith('-p short --job-name=job --ntasks=2 --cpus-per-task=1 --kill-on-bad-exit=1 --quiet --time')
    assert 'gres' not in asked


@no_gpu
def test_mpi_without_gpu(joint_gradients, two_steps, write_config, python, tmp_path):
    """The same as mpirun starts it: processes that know of each other from its variables alone."""
    command = [python, TOOLS / 'train.py', write_config(halves(two_steps, False)), '--launcher', 'mpi']
    port = free_port()
    ranks = [subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              env=os.environ | dict(MASTER_PORT=port, OMPI_COMM_WORLD_SIZE='2',
                                                    OMPI_COMM_WORLD_RANK=rank, OMPI_COMM_WORLD_LOCAL_RANK=rank))
             for rank in '01']
    outputs = [rank.communicate()[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], outputs[0][-3000:]
    assert_same_gradients(joint_gradients, gradients(tmp_path / 'work_dirs/tiny/epoch_2.pth'))


@pytest.mark.slow
def test_a_killed_process(cls_fields, write_config, shell, tmp_path):
    """As where memory runs out: the other does not wait for it for ever, and the training can go on."""
    command = ['bash', TOOLS / 'dist_train.sh', write_config(cls_fields), 2, '--no-validate', '--cfg-options']
    launched = subprocess.Popen([str(word) for word in [*command, 'train_cfg.max_epochs=999']], cwd=tmp_path,
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                env=os.environ | {'PYTHON': sys.executable})
    work_dir = tmp_path / 'work_dirs/tiny'
    try:
        while not list(work_dir.glob('epoch_*.pth')):
            assert launched.poll() is None, 'the training ended before it could be killed'
            time.sleep(0.05)
        children = Path(f'/proc/{launched.pid}/task/{launched.pid}/children').read_text().split()
        workers = [int(pid) for pid in children if 'train.py' in Path(f'/proc/{pid}/cmdline').read_text()]
        assert len(workers) == 2
        os.kill(workers[1], signal.SIGKILL)
        assert launched.wait(60)
    finally:
        launched.terminate()  # the launcher ends its processes
        launched.wait()
    epoch = max(int(path.stem.split('_')[1]) for path in work_dir.glob('epoch_*.pth') if is_whole(path))
    result = shell(*command, f'train_cfg.max_epochs={epoch + 1}', '--resume')
    assert result.returncode == 0, result.stderr[-3000:]
    assert f'resumed epoch: {epoch}, ' in result.stdout and is_whole(work_dir / f'epoch_{epoch + 1}.pth')


def test_joint_batch_matters(joint_gradients, two_steps, write_config, tool, tmp_path):
    """The comparison above can fail: half of the images give other gradients."""
    two_steps['train_dataloader']['batch_size'] = 4
    two_steps['train_dataloader']['dataset']['indices'] = 4
    tool('train.py', write_config(two_steps, 'half'))
    with pytest.raises(AssertionError, match='not close'):
        assert_same_gradients(joint_gradients, gradients(tmp_path / 'work_dirs/half/epoch_2.pth'))


@pytest.mark.parametrize('launcher', ['torchrun', pytest.param('slurm', marks=[no_gpu, pytest.mark.slow])])
def test_two_processes_share_the_test_set(launcher, slurm, cls_fields, write_config, tool, shell, tmp_path):
    """The predictions are those of one process, in its order."""
    config = write_config(cls_fields)
    tool('train.py', config, '--no-validate', '--cfg-options', 'train_cfg.max_epochs=1')
    checkpoint = tmp_path / 'work_dirs/tiny/epoch_1.pth'
    tool('test.py', config, checkpoint, '--out', 'one.pkl')
    if launcher == 'torchrun':
        result = shell('bash', TOOLS / 'dist_test.sh', config, checkpoint, 2, '--out', 'two.pkl', '--show-dir', 'shown')
        assert len(list((tmp_path / 'shown').rglob('*.png'))) == 4  # of 8
        assert result.stdout.count('the first alone draw') == 1
    else:
        result = shell('bash', TOOLS / 'slurm_test.sh', 'short', 'job', config, checkpoint, '--out', 'two.pkl', **slurm)
    assert result.returncode == 0, result.stderr[-3000:]
    one, two = (pickle.loads((tmp_path / name).read_bytes()) for name in ('one.pkl', 'two.pkl'))
    assert [sample['img_path'] for sample in one] == [sample['img_path'] for sample in two]
    for a, b in zip(one, two, strict=True):
        torch.testing.assert_close(a['pred_score'], b['pred_score'])
