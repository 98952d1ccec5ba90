"""Grids of detectors and segmentors: some steps of a trunk and a grown net on 24 tiny scenes, for real."""
import sys
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from squares import small_data

from mmscalenet.datasets.writing import write_fashion_scenes

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / 'tools/study'))

import lines  # noqa: E402
import report  # noqa: E402
from arms import CONFIGS  # noqa: E402
from grids import GRIDS  # noqa: E402
from run import Study  # noqa: E402
from runs import Run  # noqa: E402
from training_flops import count_losses  # noqa: E402

CONFIG = """
_base_ = {config!r}
model = dict(backbone=dict(init_cfg=None))
data_root = {root!r}
train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
train_cfg = dict(max_iters=20, val_interval=10)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=2))
"""
EVALUATOR = """
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val.json')
test_evaluator = val_evaluator
"""


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp('dense')
    for name, content in small_data().items():
        (folder / name).write_bytes(content)
    return write_fashion_scenes(folder / 'scenes', folder, train=24, val=6, size=112)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize('task, metrics', [('mask_rcnn', {'box_ap', 'mask_ap'}), ('upernet', {'miou'})])
def test_a_trunk_and_what_grows_from_it(scenes, tmp_path, monkeypatch, task, metrics):
    config = tmp_path / 'deit-tiny.py'
    text = CONFIG.format(config=str(ROOT / CONFIGS[task]), root=f'{scenes}/')
    if task == 'mask_rcnn':
        text += EVALUATOR
    config.write_text(text)
    common = dict(grid=task, seed=0, config=str(config))
    base = Run(arm='base', **common)
    grown = Run(arm='ScaleNet', parent=base, at=0.7, options=next(
        run.options for run in GRIDS[f't2_{task}']() if run.arm == 'gate 0'), **common)
    again = Run(arm='again', parent=base, at=0.7, **common)
    study = Study([base, again, grown], tmp_path / 'work', tmp_path / 'no_data', tmp_path / 'lines')
    study.work(1)
    assert not study.failed
    records = {record['arm']: record for record in lines.read(tmp_path / f'lines/{task}.jsonl')}
    assert records.keys() == {'base', 'again', 'ScaleNet'}
    for record in records.values():
        assert metrics == record['curve'][-1].keys() - {'step', 'flops', 'train_loss', 'wall'}
        assert all(0 <= record['curve'][-1][metric] <= 100 for metric in metrics)
        assert abs(record['train_flops'] - records['base']['train_flops']) <= 3 * record['multiply_adds']
    # the fork goes on with weights, moments, order and augmentation of the trunk
    assert records['again']['curve'][-1]['train_loss'] > 0
    for metric in metrics:
        assert records['again']['curve'][-1][metric] == records['base']['curve'][-1][metric]
    assert records['ScaleNet']['parameters'] > records['base']['parameters']
    monkeypatch.setattr(sys, 'argv', ['report.py', '--lines', str(tmp_path / 'lines')])
    report.main()
    assert all(f'{name} against' in (tmp_path / 'tables.md').read_text()
               for name in (('box AP', 'mask AP') if task == 'mask_rcnn' else ('mIoU', )))


def test_the_count_is_the_same_every_time():
    """Of a detector, whose sampler draws at random: weights from another seed change nothing."""
    import torch
    from get_flops import build
    cfg = Config.fromfile(ROOT / CONFIGS['mask_rcnn'])
    counts = []
    for seed in range(2):
        torch.manual_seed(seed)
        np.random.seed(seed)
        counts.append(count_losses(build(cfg), cfg, (3, 112, 112)))
    assert counts[0] == counts[1] > 2 * 4 * 196 * 12 * 128**2  # four blocks of two images
