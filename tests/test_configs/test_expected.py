"""Configs on Fashion data say what they came to, and how far from it another run may be.

The figures are those of the raw logs, in percent; the tolerance is a margin for other machines, not a measured spread.
"""
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
EXPECTED = re.compile(r'^# Expected: (\S+) ([\d.]+) \+- ([\d.]+)$', re.MULTILINE)
NAMES = {'Top 1 Accuracy': 'accuracy/top1', 'box AP': 'coco/bbox_mAP', 'mask AP': 'coco/segm_mAP', 'mIoU': 'mIoU'}
MODELS = [model for folder in ('fashion', 'fashion_scenes')
          for model in yaml.safe_load((ROOT / f'configs/{folder}/metafile.yml').read_text())['Models']]


def expected(config: str) -> dict[str, tuple[float, float]]:
    """Metric -> value and tolerance."""
    return {name: (float(value), float(tolerance))
            for name, value, tolerance in EXPECTED.findall((ROOT / config).read_text())}


@pytest.mark.parametrize('model', MODELS, ids=lambda model: model['Name'])
def test_figures_are_those_of_the_logs(model):
    logged = {NAMES[name]: value for result in model.get('Results', []) for name, value in result['Metrics'].items()}
    assert {name: value for name, (value, _) in expected(model['Config']).items()} == logged


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize('config', ['configs/fashion/deit-mini_9e_fashion-mnist.py'])
def test_a_run_comes_to_it(config, tmp_path):
    """Two to five minutes."""
    sys.path.append(str(ROOT / 'tools/dataset_converters'))
    from prepare_fashion_mnist import prepare
    data = prepare(tmp_path / 'data')
    subprocess.run([sys.executable, ROOT / 'tools/train.py', ROOT / config, '--work-dir', 'run', '--cfg-options',
                    *(f'{split}_dataloader.dataset.data_root={data}' for split in ('train', 'val', 'test'))],
                   cwd=tmp_path, check=True)
    log, = (tmp_path / 'run').glob('*/vis_data/scalars.json')
    last = json.loads(log.read_text().splitlines()[-1])
    shutil.rmtree(tmp_path / 'run')
    for name, (value, tolerance) in expected(config).items():
        assert abs(last[name] - value) < tolerance
