"""Configs on Fashion data say what they came to, and how far from it another run may be.

The figures are those of the raw logs, in percent; the tolerance is a margin for other machines, not a measured spread.
"""
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from squares import small_data

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / 'tools'))
import reproduce  # noqa: E402

NAMES = {'Top 1 Accuracy': 'accuracy/top1', 'box AP': 'coco/bbox_mAP', 'mask AP': 'coco/segm_mAP', 'mIoU': 'mIoU'}
MODELS = [model for folder in ('fashion', 'fashion_scenes')
          for model in yaml.safe_load((ROOT / f'configs/{folder}/metafile.yml').read_text())['Models']]


@pytest.mark.parametrize('model', MODELS, ids=lambda model: model['Name'])
def test_figures_are_those_of_the_logs(model):
    logged = {NAMES[name]: value for result in model.get('Results', []) for name, value in result['Metrics'].items()}
    assert {name: value for name, (value, _) in reproduce.expected(ROOT / model['Config']).items()} == logged


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize('config', ['configs/fashion/deit-mini_9e_fashion-mnist.py'])
def test_a_run_comes_to_it(config, tmp_path):
    """Two to five minutes."""
    subprocess.run([sys.executable, ROOT / 'tools/reproduce.py', ROOT / config], cwd=tmp_path, check=True)
    shutil.rmtree(tmp_path / 'work_dirs')


@pytest.mark.slow
def test_bases_come_first_and_a_miss_is_an_error(tmp_path, monkeypatch):
    scenes = ROOT / 'configs/fashion_scenes'
    order = reproduce.in_order(sorted(scenes.glob('upernet_*swin*trained-on*.py')))
    assert [path.stem for path in order] == [
        'swin-nano_8e_fashion-crops', 'upernet_swin-nano_6000i_fashion-scenes',
        'upernet_swin-nano_trained-on-2000i_fashion-scenes']

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(reproduce, 'prepare_data', lambda config: None)
    (tmp_path / 'data/fashion_mnist').mkdir(parents=True)
    for name, content in small_data().items():  # easier than the real one: it ends above what is expected
        (tmp_path / 'data/fashion_mnist' / name).write_bytes(content)
    config = ROOT / 'configs/fashion/deit-mini_9e_fashion-mnist.py'
    missed, = reproduce.reproduce(config)
    assert 'accuracy/top1' in missed and 'expected 82.48 +- 1.0' in missed
    assert (tmp_path / 'work_dirs' / config.stem / 'epoch_9.pth').exists()


@pytest.mark.parametrize('config, message', [
    ('none.py', 'config "'), ('configs/scalenet_deit_in1k.py', 'data/imagenet')])
def test_refused(config, message, tmp_path):
    done = subprocess.run([sys.executable, ROOT / 'tools/reproduce.py', ROOT / config], cwd=tmp_path,
                          capture_output=True, text=True)
    line, = (line for line in done.stderr.splitlines() if 'rror' in line)
    assert done.returncode and line.startswith('error: ') and message in line
    assert not list(tmp_path.iterdir())
