"""A training that is killed, however often and wherever, ends with the bits of one that nobody kills."""
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from killed_runs import curves, differences, last_checkpoint, train

TOOLS = Path(__file__).resolve().parents[2] / 'tools'
AUGMENT = dict(
    cls=[dict(type='RandomResizedCrop', scale=32), dict(type='RandomFlip', prob=0.5),
         dict(type='ColorJitter', brightness=0.4)],
    det=[dict(type='RandomFlip', prob=0.5), dict(type='PhotoMetricDistortion')],
    seg=[dict(type='RandomFlip', prob=0.5), dict(type='PhotoMetricDistortion')])
SWIN = dict(
    backbone=dict(type='mmscalenet.ScaleNetSwin', scale=2, img_size=32, patch_size=2, window_size=4,
                  arch=dict(embed_dims=8, depths=[2, 2], num_heads=[1, 2]), out_indices=(1, )),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=2, in_channels=16))


def vary(fields: dict, task: str = 'cls', swin: bool = False, loop: str = 'epoch', sampler: str = 'DefaultSampler',
         save: str = 'iter', interval: int = 1, batch: int = 2, workers: int = 0, persistent: bool = False,
         random_parts: bool = True, ema: bool = False, accumulate: int = 1, amp: bool = False, optimizer: str = 'AdamW',
         depth: str | None = None, plateau: bool = False, seed: int | None = 0, find_unused: bool = False,
         zero: bool = False) -> dict:
    """The config of one cell of the matrix: three epochs of two or four iterations."""
    length = (8 if task == 'cls' else 4) // batch
    fields['randomness'] = dict(seed=seed)
    fields['find_unused_parameters'] = find_unused or task == 'seg'  # norms of stages that its head does not take
    fields['train_dataloader'].update(batch_size=batch, num_workers=workers, persistent_workers=persistent,
                                      sampler=dict(type=sampler, shuffle=True))
    if swin:
        fields['model'].update(SWIN)
    if task == 'cls':
        # mmpretrain starts the head at 0, which would keep the backbone's gradients 0 too
        fields['model']['head']['init_cfg'] = dict(type='Normal', layer='Linear', std=0.5)
    fields['model']['backbone']['drop_path_rate'] = 0.3 * random_parts
    if random_parts:
        fields['train_dataloader']['dataset']['pipeline'][-1:-1] = AUGMENT[task]
    if random_parts and task == 'cls':
        fields['model']['train_cfg'] = dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)])
    fields['custom_hooks'] = [dict(type='EMAHook', momentum=0.1)] * ema
    if depth:
        begin = {} if depth == 'elastic' else dict(begin=0.4)
        fields['custom_hooks'].append(dict(type='mmscalenet.DepthHook', mode=depth, **begin))
    fields['optim_wrapper'] = dict(
        type='AmpOptimWrapper' if amp else 'OptimWrapper', accumulative_counts=accumulate, clip_grad=dict(max_norm=1.),
        optimizer=dict(type=optimizer, lr=0.002))
    if zero:
        fields['optim_wrapper']['optimizer'].update(type='ZeroRedundancyOptimizer', optimizer_type=optimizer)
    by_epoch = loop == 'epoch'
    fields['train_cfg'] = dict(by_epoch=True, max_epochs=3) if by_epoch else dict(
        by_epoch=False, max_iters=3 * length, val_interval=length)
    fields['param_scheduler'] = [
        dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=4),
        dict(type='CosineAnnealingLR', T_max=3, convert_to_iter_based=True) if by_epoch else
        dict(type='CosineAnnealingLR', T_max=3 * length, by_epoch=False)]
    if plateau:
        fields['param_scheduler'] = [dict(type='ReduceOnPlateauLR', monitor='accuracy/top1', rule='greater',
                                          patience=0, threshold=100)]
    fields['default_hooks'] = dict(
        logger=dict(type='LoggerHook', interval=1),
        checkpoint=dict(type='CheckpointHook', by_epoch=save == 'epoch', interval=interval, max_keep_ckpts=2,
                        save_best='auto'))
    return fields


@pytest.fixture
def assert_exact(request, write_config, tool, tmp_path):
    """Train a cell of the matrix as a whole, and killed several times."""

    def check(kills: int, task: str = 'cls', ranks: int = 1, **cell) -> None:
        fields = vary(request.getfixturevalue(f'{task}_fields'), task, **cell)
        config, draw, options = write_config(fields), random.Random(str(cell)), []
        for number in range(kills):
            # in between with data workers, or others: the data do not depend on them
            workers = number % 2 and ['--cfg-options', 'train_dataloader.num_workers=2',
                                      'train_dataloader.persistent_workers=True']
            if train(tool, config, 'killed', '--resume', *workers or [], calls=draw.randint(16, 40), ranks=ranks):
                break
        assert train(tool, config, 'killed', '--resume', ranks=ranks)
        if cell.get('seed', 0) is None:  # drawn by the first process that came to a checkpoint
            options = ['--cfg-options', f'randomness.seed={last_checkpoint(tmp_path / "killed")["meta"]["seed"]}']
        assert train(tool, config, 'whole', *options, ranks=ranks)
        assert_same(tmp_path)

    return check


def assert_same(folder: Path) -> None:
    found = differences(last_checkpoint(folder / 'whole'), last_checkpoint(folder / 'killed'))
    assert not found, f'{len(found)} entries of the last checkpoint differ: {found[:10]}'
    best, other = (sorted(path.name for path in (folder / name).glob('best_*.pth')) for name in ('whole', 'killed'))
    assert best and best == other
    for name in best:
        found = differences(*(torch.load(folder / run / name, weights_only=False) for run in ('whole', 'killed')))
        assert not found, f'{len(found)} entries of {name} differ: {found[:10]}'
    whole, killed = (curves(folder / name) for name in ('whole', 'killed'))
    wrong = [line for line in killed if line not in whole]
    assert not wrong, f'a killed run logged {wrong}, and the whole one {whole}'
    assert [line for line in whole if line in killed] == whole, 'a line is missing in the logs of the killed run'


@pytest.mark.parametrize('cell', [
    dict(ema=True, accumulate=3, interval=2),
    dict(loop='iter', sampler='InfiniteSampler', interval=2, accumulate=3, amp=True, seed=None, depth='elastic'),
])
def test_killed_twice(cell, assert_exact):
    """Drop path, augmentation, mixup and cutmix; of epochs and of iterations."""
    assert_exact(2, **cell)


def test_two_processes(assert_exact):
    """From the middle of an epoch and of a step of the optimizer; norms whose statistics differ by process."""
    assert_exact(1, 'seg', ranks=2, batch=1, accumulate=3, ema=True)


def test_what_is_not_restored_is_said(cls_fields, write_config, tool, tmp_path, capfd):
    fields = vary(cls_fields, interval=6)
    config = write_config(fields)
    tool('train.py', config, '--no-validate')
    path = tmp_path / 'work_dirs/tiny/iter_6.pth'

    def said(config: Path, *options: str) -> list[str]:
        capfd.readouterr()
        tool('train.py', config, '--no-validate', '--work-dir', 'other', '--resume', path, '--cfg-options',
             'train_cfg.max_epochs=2', *options)
        return [line for line in capfd.readouterr().out.splitlines() if 'Not restored' in line]

    assert not said(config)
    fields['custom_hooks'] = [dict(type='EarlyStoppingHook', monitor='accuracy/top1')]
    other, = said(write_config(fields, 'other'), 'train_dataloader.batch_size=4')
    assert 'EarlyStoppingHook' in other and 'batch_size=2 (4 now)' in other

    checkpoint = torch.load(path, weights_only=False)
    del checkpoint['meta']['exact_resume']
    torch.save(checkpoint, path)
    old, = said(config)
    assert 'a run without ExactResumeHook' in old


MATRIX = {
    'nothing random': dict(random_parts=False),
    'SGD': dict(optimizer='SGD'),
    'workers': dict(workers=2, ema=True),
    'persistent workers': dict(workers=2, persistent=True, save='epoch', ema=True),
    'half a step at the end of an epoch': dict(accumulate=3, save='epoch'),
    'bf16': dict(amp=True, accumulate=2, ema=True),
    'plateau': dict(plateau=True, save='epoch'),
    'Swin': dict(swin=True, workers=2, accumulate=2, ema=True),
    'Swin, iterations': dict(swin=True, loop='iter', amp=True),
    'iterations': dict(loop='iter', workers=2, ema=True),
    'infinite': dict(loop='iter', sampler='InfiniteSampler', workers=2, persistent=True, accumulate=3, interval=2),
    'no seed': dict(seed=None),
    'no seed, infinite': dict(seed=None, loop='iter', sampler='InfiniteSampler', workers=2),
    'elastic': dict(depth='elastic', accumulate=2),
    'ramp': dict(depth='ramp', ema=True),
    'grow': dict(depth='grow', ema=True, workers=2),
    'det': dict(task='det', batch=1, accumulate=2),
    'det, iterations': dict(task='det', loop='iter', workers=2, accumulate=3, ema=True),
    'seg': dict(task='seg', batch=1, ema=True, amp=True),
    'seg, infinite': dict(task='seg', loop='iter', sampler='InfiniteSampler', workers=2),
    '2 processes': dict(ranks=2, batch=1, accumulate=3, amp=True),
    '2 processes, epochs': dict(ranks=2, batch=1, workers=2, persistent=True, save='epoch', ema=True),
    '2 processes, Swin, no seed': dict(ranks=2, batch=1, swin=True, seed=None),
    '2 processes, ZeRO': dict(ranks=2, batch=1, zero=True, ema=True),
    '2 processes, elastic': dict(ranks=2, batch=1, depth='elastic', accumulate=2),
    '2 processes, det': dict(ranks=2, task='det', batch=1),
    '2 processes, seg, infinite': dict(ranks=2, task='seg', batch=1, loop='iter', sampler='InfiniteSampler',
                                       accumulate=2),
    '3 processes': dict(ranks=3, batch=1, accumulate=2, ema=True, find_unused=True),
}


@pytest.mark.slow
@pytest.mark.parametrize('cell', MATRIX)
def test_matrix(cell, assert_exact):
    """Together more than 50 kills."""
    assert_exact(3, **MATRIX[cell])


@pytest.mark.slow
def test_grown_in_the_middle(cls_fields, write_config, tool, tmp_path):
    """tools/grow.py makes a run of a base one of the grown net; that is as exact, from the checkpoint on."""
    fields = vary(cls_fields, ema=True, workers=2, interval=6)
    fields['default_hooks']['checkpoint']['max_keep_ckpts'] = 9
    fields['model']['backbone'].update(scale=1, adapter=None)
    base, often = write_config(fields), ['--cfg-options', 'default_hooks.checkpoint.interval=1']
    tool('train.py', base)
    tool('grow.py', base, tmp_path / 'work_dirs/tiny/iter_6.pth', '--out', 'grown', '--name', 'grown')
    config, start = tmp_path / 'grown/grown.py', ['--resume', 'grown/grown.pth', *often]
    assert train(tool, config, 'whole', *start)
    assert not train(tool, config, 'killed', *start, calls=30)
    assert not train(tool, config, 'killed', '--resume', *often, calls=20)
    assert train(tool, config, 'killed', '--resume', *often)
    assert_same(tmp_path)


@pytest.mark.slow
def test_killed_from_outside(cls_fields, write_config, tmp_path):
    """Two processes under torchrun, killed with all that they started at moments that nobody chose."""
    config = write_config(vary(cls_fields, batch=1, workers=2, accumulate=3, ema=True))
    command, draw = ['bash', TOOLS / 'dist_train.sh', config, 2, '--resume', '--work-dir'], random.Random(0)

    def start(work_dir: str) -> subprocess.Popen:
        return subprocess.Popen([str(word) for word in [*command, work_dir]], cwd=tmp_path, start_new_session=True,
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                env=os.environ | {'PYTHON': sys.executable, 'OMP_NUM_THREADS': '1'})

    assert start('whole').wait(240) == 0
    for number in range(3):
        known, process = set(tmp_path.glob('killed/iter_*.pth')), start('killed')
        while set(tmp_path.glob('killed/iter_*.pth')) <= known:
            assert process.poll() is None, f'the training ended before kill {number}'
            time.sleep(0.01)
        time.sleep(draw.random() / 3)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert start('killed').wait(240) == 0
    assert_same(tmp_path)
