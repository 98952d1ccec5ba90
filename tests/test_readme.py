"""The README stays true: its drop-in runs, its table lists what there is, its files exist."""
import inspect
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

import mmscalenet
from mmscalenet.expansion import position_lists

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / 'README.md').read_text()


def test_the_three_lines_make_a_detector_with_scalenet(tmp_path):
    from mmdet.registry import MODELS
    block = next(b for b in re.findall(r'```python\n(.*?)```', TEXT, re.S) if '_base_' in b)
    (tmp_path / 'config.py').write_text(block)
    config = Config.fromfile(tmp_path / 'config.py')
    with DefaultScope.overwrite_default_scope(config.default_scope):
        detector = MODELS.build(config.model).eval()
    assert isinstance(detector.backbone, mmscalenet.ScaleNetSwin)
    assert [len(p) for p in position_lists(detector.backbone).values()] == [4, 4, 12, 4]
    with torch.no_grad():
        maps = detector.extract_feat(torch.randn(1, 3, 64, 96))
    assert [tuple(m.shape[2:]) for m in maps] == [(16, 24), (8, 12), (4, 6), (2, 3), (1, 2)]


def test_option_table_is_complete():
    options = set(re.findall(r'^\| `(\w+)` \|', TEXT, re.M))
    arguments = set(inspect.signature(mmscalenet.expand).parameters) - {'backbone'}
    own = {name for cls in (mmscalenet.ScaleNetDeiT, mmscalenet.ScaleNetSwin) for name in cls.own_arguments()}
    assert options == arguments | own | {'base'}


def test_defaults_in_the_table_are_those_of_the_code():
    rows = re.findall(r'^\| `(\w+)` \| `(.+?)` \|', TEXT, re.M)
    signature = inspect.signature(mmscalenet.expand).parameters
    for name, default in rows:
        if name in signature:
            assert eval(default) == signature[name].default, name


PATHS = sorted(set(re.findall(r'(?<![\w/:])((?:docs|configs|tools|mmscalenet)/[\w./-]*\w)', TEXT)))


@pytest.mark.parametrize('path', PATHS)
def test_every_file_named_exists(path):
    assert (ROOT / path).exists(), f'README names {path}'


def test_no_open_place_is_left():
    assert '@@' not in TEXT
