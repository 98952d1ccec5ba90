"""--depth of the tools other than test.py (that: tests/test_engine/test_depth_hook.py)."""
import json
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from mmscalenet.apis import Inferencer
from mmscalenet.engine.depth import let_depth_change

ROOT = Path(__file__).resolve().parents[2]
ANALYSIS = ROOT / 'tools/analysis_tools'


@pytest.fixture
def checkpoint(cls_fields, write_config, tmp_path):
    """Config and a function that writes a checkpoint of it, as of a run whose depth changes."""
    config = write_config(cls_fields)
    cfg = Config.fromfile(config)
    init_default_scope(cfg.default_scope)
    state = MODELS.build(cfg.model).state_dict()
    generator = torch.Generator().manual_seed(0)
    state = {key: torch.randn(value.shape, generator=generator) * 0.3 if value.is_floating_point() else value
             for key, value in state.items()}

    def write(depth: int | None = None) -> Path:
        meta = {} if depth is None else dict(depth=dict(backbone=[depth]))
        torch.save(dict(state_dict=state, meta=meta), tmp_path / f'{depth}.pth')
        return tmp_path / f'{depth}.pth'

    return config, write


def test_image_demo(checkpoint, tool, tiny_data, tmp_path):
    config, write = checkpoint
    image = sorted((tiny_data / 'cls/class0').iterdir())[0]

    def score(path: Path, *options: object) -> float:
        tool('visualization/image_demo.py', image, config, path, '--out', 'out', '--device', 'cpu', *options)
        return json.loads((tmp_path / f'out/{image.name}.json').read_text())['score']

    plain, kept = write(), write(2)
    scores = {depth: score(plain, '--depth', depth) for depth in (2, 3, 4)}
    assert len(set(scores.values())) == 3
    assert score(plain) == scores[4] and score(kept) == scores[2] and score(kept, '--depth', 3) == scores[3]
    assert Inferencer(str(config), kept, 'cpu').model.backbone.active_depth == [2]


@pytest.fixture
def cells(shell):
    """Runs a script of tools/analysis_tools; gives the cells of the first row of its table."""

    def run(script: str, *options: object) -> list[str]:
        result = shell('python', ANALYSIS / script, *options)
        assert result.returncode == 0, result.stderr[-2000:]
        return re.findall(r'^\| .*\|$', result.stdout, re.M)[2].split('|')

    return run


def test_get_flops(cells):
    deit = ROOT / 'configs/deit/scalenet-deit-tiny-x2_100e_in1k.py'
    small, full, base = (float(cells('get_flops.py', deit, *options)[4])
                         for options in (('--depth', 12), (), ('--scales', 1)))
    assert small == base < 0.55 * full


@pytest.mark.slow
def test_benchmark_config(cells):
    swin = ROOT / 'configs/fashion/scalenet-swin-mini-x2_3e_fashion-mnist.py'
    benchmark = ('benchmark_config.py', swin, '--shape', 224, 224, '--rounds', 1, '--threads', 1, '--variants', '')
    small, full = (float(cells(*benchmark, *options)[4]) for options in (('--depth', 2, 4), ()))
    assert 0 < small < 0.7 * full  # activations


def test_where_there_is_nothing_to_change(shell):
    result = shell('python', ANALYSIS / 'get_flops.py', ROOT / 'configs/fashion/deit-mini_9e_fashion-mnist.py',
                   '--depth', 4)
    assert result.returncode == 2 and 'error: --depth needs a config with a ScaleNet backbone' in result.stderr


def test_where_depth_is_the_parents(shell, tmp_path):
    config = tmp_path / 'xcit.py'
    config.write_text("model = dict(type='ImageClassifier', backbone=dict(type='mmscalenet.ScaleNet', scale=2, "
                      "base='mmpretrain.XCiT', patch_size=8, depth=2, embed_dims=16, num_heads=2))\n"
                      "default_scope = 'mmpretrain'\ncustom_imports = dict(imports=['mmscalenet'])\n")
    result = shell('python', ANALYSIS / 'get_flops.py', config, '--depth', 4)
    assert result.returncode == 2 and "--depth is not for a config with base='mmpretrain.XCiT'" in result.stderr
    cfg = Config.fromfile(config)
    let_depth_change(cfg)
    assert 'find_unused_parameters' not in cfg  # 2 is how many blocks it has


def test_a_test_leaves_the_config_of_the_training(cls_fields, write_config, tool, tmp_path):
    """From which the run is resumed, grown and tested again."""
    config = write_config(cls_fields)
    tool('train.py', config, '--no-validate')
    kept = tmp_path / 'work_dirs/tiny/tiny.py'
    before = kept.read_bytes()
    for options in (['--depth', 2], ['--tta'], ['--cfg-options', 'test_dataloader.batch_size=1']):
        tool('test.py', config, tmp_path / 'work_dirs/tiny/epoch_3.pth', *options)
    assert kept.read_bytes() == before
    assert [path.name for path in kept.parent.glob('*.py')] == ['tiny.py']
