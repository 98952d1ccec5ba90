"""A training that is killed, however often and wherever, ends with the bits of one that nobody kills."""
import random

import pytest
from killed_runs import curves, differences, last_checkpoint, train

AUGMENT = dict(
    cls=[dict(type='RandomResizedCrop', scale=32), dict(type='RandomFlip', prob=0.5),
         dict(type='ColorJitter', brightness=0.4)],
    det=[dict(type='RandomFlip', prob=0.5), dict(type='PhotoMetricDistortion')],
    seg=[dict(type='RandomFlip', prob=0.5), dict(type='PhotoMetricDistortion')])


def vary(fields: dict, task: str, workers: int = 0, persistent: bool = False, augment: bool = False,
         drop_path: float = 0., ema: bool = False, accumulate: int = 1, amp: bool = False, loop: str = 'epoch',
         sampler: str = 'DefaultSampler', save: str = 'epoch', depth: str | None = None, batch: int = 2,
         epochs: int = 3, interval: int = 1, val: bool = True, schedule: bool = True, optimizer: str = 'AdamW') -> dict:
    """A config with one cell of the matrix."""
    fields['find_unused_parameters'] = task == 'seg'  # norms of stages that its head does not take
    samples = 8 if task == 'cls' else 4
    length = samples // batch
    loader = fields['train_dataloader']
    loader.update(batch_size=batch, num_workers=workers, persistent_workers=persistent,
                  sampler=dict(type=sampler, shuffle=True))
    if augment:
        loader['dataset']['pipeline'][-1:-1] = AUGMENT[task]
        if task == 'cls':
            fields['model']['train_cfg'] = dict(augments=[dict(type='Mixup', alpha=0.8),
                                                          dict(type='CutMix', alpha=1.0)])
    fields['model']['backbone']['drop_path_rate'] = drop_path
    hooks = fields['custom_hooks'] = []
    if ema:
        hooks.append(dict(type='EMAHook', momentum=0.1))
    if depth:
        hooks.append(dict(type='mmscalenet.DepthHook', mode=depth, **dict(begin=0.4) if depth != 'elastic' else {}))
    fields['optim_wrapper'] = dict(
        type='AmpOptimWrapper' if amp else 'OptimWrapper', accumulative_counts=accumulate,
        clip_grad=dict(max_norm=1.), optimizer=dict(type='AdamW', lr=0.002) if optimizer == 'AdamW' else dict(
            type='SGD', lr=0.01, momentum=0.9))
    if schedule:
        fields['param_scheduler'] = [
            dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=4),
            dict(type='CosineAnnealingLR', T_max=epochs, by_epoch=True, convert_to_iter_based=True) if loop == 'epoch'
            else dict(type='CosineAnnealingLR', T_max=epochs * length, by_epoch=False)]
    if loop == 'epoch':
        fields['train_cfg'] = dict(by_epoch=True, max_epochs=epochs)
    else:
        fields['train_cfg'] = dict(by_epoch=False, max_iters=epochs * length, val_interval=length)
    fields['default_hooks'] = dict(
        logger=dict(type='LoggerHook', interval=1),
        checkpoint=dict(type='CheckpointHook', by_epoch=save == 'epoch', interval=interval, max_keep_ckpts=2,
                        save_best='auto' if val else None))
    if not val:
        for name in ('val_dataloader', 'val_cfg', 'val_evaluator'):
            fields.pop(name, None)
    if task == 'cls':
        # mmpretrain starts the head at 0, which would keep the backbone's gradients 0 too
        fields['model']['head']['init_cfg'] = dict(type='Normal', layer='Linear', std=0.5)
    return fields


def check(tool, config, tmp_path, kills, ranks=1, seed=0, longest=40) -> None:
    draw, done = random.Random(seed), False
    assert train(tool, config, 'whole', ranks=ranks)
    for _ in range(kills):
        done = train(tool, config, 'killed', '--resume', calls=draw.randint(5, longest), ranks=ranks)
        if done:
            break
    done = done or train(tool, config, 'killed', '--resume', ranks=ranks)
    assert done
    assert_same(tmp_path)


def assert_same(tmp_path) -> None:
    found = differences(last_checkpoint(tmp_path / 'whole'), last_checkpoint(tmp_path / 'killed'))
    assert not found, f'{len(found)} differ: {found[:10]}'
    whole = curves(tmp_path / 'whole')
    for line in curves(tmp_path / 'killed'):
        assert line in whole, line
    lacking = [line for line in whole if line not in curves(tmp_path / 'killed')]
    assert not lacking, lacking


CELLS = {
    'plain': dict(),
    'persistent': dict(augment=True, workers=2, persistent=True, drop_path=0.3, ema=True),
    'infinite': dict(augment=True, loop='iter', sampler='InfiniteSampler', drop_path=0.3, save='iter', accumulate=3,
                     workers=2, persistent=True),
    'det': dict(task='det', augment=True, drop_path=0.3, save='iter', batch=1),
    'det iter': dict(task='det', augment=True, drop_path=0.3, save='iter', loop='iter', workers=2, accumulate=3, ema=True),
    'seg': dict(task='seg', augment=True, drop_path=0.3, save='iter', loop='iter', sampler='InfiniteSampler', workers=2),
    'seg epoch': dict(task='seg', augment=True, drop_path=0.3, save='iter', batch=1, ema=True, amp=True),
    'elastic': dict(augment=True, drop_path=0.3, save='iter', depth='elastic', accumulate=2),
    'ramp': dict(augment=True, drop_path=0.3, save='iter', depth='ramp', ema=True),
    'depth grow': dict(augment=True, drop_path=0.3, save='iter', depth='grow', ema=True),
    'two': dict(ranks=2, augment=True, drop_path=0.3, save='iter', accumulate=3, batch=1),
    'two epoch': dict(ranks=2, augment=True, drop_path=0.3, ema=True, workers=2, persistent=True, batch=1),
    'two seg': dict(ranks=2, task='seg', augment=True, drop_path=0.3, save='iter', batch=1, ema=True, accumulate=2),
    'two seg infinite': dict(ranks=2, task='seg', augment=True, loop='iter', save='iter', batch=1,
                             sampler='InfiniteSampler'),
    'two det': dict(ranks=2, task='det', augment=True, drop_path=0.3, save='iter', batch=1),
    'two elastic': dict(ranks=2, augment=True, drop_path=0.3, save='iter', depth='elastic', accumulate=2, batch=1),
}


@pytest.mark.parametrize('cell', CELLS)
def test_cells(cell, request, write_config, tool, tmp_path):
    options = dict(CELLS[cell])
    task, ranks = options.pop('task', 'cls'), options.pop('ranks', 1)
    fields = request.getfixturevalue(f'{task}_fields')
    check(tool, write_config(vary(fields, task, **options)), tmp_path, kills=4, ranks=ranks)


@pytest.mark.parametrize('loop', [dict(), dict(loop='iter', sampler='InfiniteSampler', workers=2)])
def test_run_without_a_seed(loop, cls_fields, write_config, tool, tmp_path):
    """Its seed, which mmengine draws, is in the checkpoint; a new process first builds its sampler with another."""
    fields = vary(cls_fields, 'cls', augment=True, drop_path=0.3, save='iter', **loop)
    del fields['randomness']
    config = write_config(fields)
    assert not train(tool, config, 'killed', calls=40)
    seed = last_checkpoint(tmp_path / 'killed')['meta']['seed']
    assert not train(tool, config, 'killed', '--resume', calls=20)
    assert train(tool, config, 'killed', '--resume')
    assert train(tool, config, 'whole', '--cfg-options', f'randomness.seed={seed}')
    assert_same(tmp_path)
