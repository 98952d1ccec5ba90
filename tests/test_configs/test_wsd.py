"""Warmup, stable, decay: the rates of a real run, its two numbers, and two runs that fork from one."""
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
SCHEDULES = CONFIGS / '_base_/schedules'


def logged(work_dir: Path, key: str) -> list[float]:
    return [line[key] for path in sorted(work_dir.glob('*/vis_data/scalars.json'))
            for line in map(json.loads, path.read_text().splitlines()) if key in line]


@pytest.fixture
def wsd(cls_fields, tmp_path) -> dict:
    """The tiny classifier, 2 iterations an epoch, with the schedule of epochs and other numbers for it."""
    for name in ('train_cfg', 'val_cfg', 'test_cfg'):
        del cls_fields[name]
    return cls_fields


def write(fields: dict, schedule: str, lines: str, path: Path) -> Path:
    path.write_text(f'_base_ = {str(SCHEDULES / schedule)!r}\n'
                    + '\n'.join(f'{key} = {value!r}' for key, value in fields.items()) + f'\n{lines}\n')
    return path


def test_rates_and_growth_in_epochs(wsd, tool, tmp_path):
    config = write(wsd, 'wsd_12e.py', '_base_.custom_hooks[0].begin = 5\n_base_.param_scheduler[1].begin = 6',
                   tmp_path / 'tiny.py')
    tool('train.py', config, '--no-validate')
    rates, depths = (logged(tmp_path / 'work_dirs/tiny', key) for key in ('lr', 'depth'))
    assert len(rates) == 24 and rates[0] == pytest.approx(1e-4) and rates[2:12] == pytest.approx([1e-2] * 10)
    steps = [a - b for a, b in zip(rates[12:], rates[13:], strict=False)]
    assert rates[12] == pytest.approx(1e-2) and rates[-1] == pytest.approx(1e-4)
    assert steps == pytest.approx([steps[0]] * 11) and steps[0] > 0
    assert depths == [2] * 10 + [4] * 14


def test_rates_and_growth_in_iterations(wsd, tool, tmp_path):
    wsd['default_hooks']['checkpoint'] = dict(type='CheckpointHook', by_epoch=False, interval=20)
    config = write(wsd, 'wsd_160k.py', '', tmp_path / 'tiny.py')
    tool('train.py', config, '--no-validate', '--cfg-options', 'train_cfg.max_iters=20', 'param_scheduler.0.end=4',
         'param_scheduler.1.begin=15', 'custom_hooks.0.begin=12')
    rates, depths = (logged(tmp_path / 'work_dirs/tiny', key) for key in ('lr', 'depth'))
    assert len(rates) == 20 and rates[3:16] == pytest.approx([1e-2] * 13) and rates[2] < 1e-2 > rates[16] > rates[17]
    assert depths == [2] * 12 + [4] * 8


@pytest.mark.parametrize('family', ['deit', 'swin'])
def test_a_pair_forks_from_one_run(family, tool, tmp_path):
    """The configs as shipped, on a few images: the grown run goes on from the other's checkpoint with its moments."""
    trained_on = CONFIGS / f'fashion/{family}-mini_trained-on-wsd-12e_fashion-mnist.py'
    grown = CONFIGS / f'fashion/scalenet-{family}-mini-x2_wsd-12e_fashion-mnist.py'
    one, two = Config.fromfile(trained_on), Config.fromfile(grown)
    assert one.param_scheduler == two.param_scheduler and one.optim_wrapper == two.optim_wrapper
    cfgs = {}
    for name, cfg in (('one', one), ('two', two)):
        cfg.train_dataloader.dataset = dict(
            type='CustomDataset', data_root=str(images(tmp_path)),
            pipeline=[dict(type='LoadImageFromFile', color_type='grayscale'), dict(type='PackInputs')])
        cfg.train_dataloader.batch_size = 4
        cfg.default_hooks.logger.interval = 1
        cfgs[name] = tmp_path / f'{name}.py'
        cfg.dump(cfgs[name])
    tool('train.py', cfgs['one'], '--no-validate')
    fork = tmp_path / 'work_dirs/one/epoch_8.pth'
    tool('train.py', cfgs['two'], '--no-validate', '--resume', fork)
    rates = [logged(tmp_path / f'work_dirs/{name}', 'lr') for name in ('one', 'two')]
    assert rates[1] == rates[0][-len(rates[1]):] and len(rates[1]) == 8
    full = 8 if family == 'deit' else 12
    assert set(logged(tmp_path / 'work_dirs/two', 'depth')) == {full}
    last = torch.load(tmp_path / 'work_dirs/two/epoch_12.pth', weights_only=False)
    steps = {int(state['step']) for state in last['optimizer']['state'].values()}
    assert steps == {24, 8}  # of what ran from the start, and of what was added


def images(folder: Path) -> Path:
    root = folder / 'images'
    for i in range(8):
        path = root / f'class{i % 2}/{i}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((28, 28), 30 * i, np.uint8)).save(path)
    return root
