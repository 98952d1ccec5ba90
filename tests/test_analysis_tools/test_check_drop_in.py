"""tools/analysis_tools/check_drop_in.py, run as people run it."""
import json
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / 'tools/analysis_tools/check_drop_in.py'
#: Quick ones of each library: a Swin and, where there is one, a ViT, and of another family; one distilled, one with
#: `pretrained='...'`.
SHIPPED = {
    'mmpretrain deit/deit-tiny-distilled_4xb256_in1k.py': 'DistilledVisionTransformer',
    'mmpretrain swin_transformer/swin-tiny_16xb64_in1k.py': 'SwinTransformer',
    'mmpretrain poolformer/poolformer-s12_32xb128_in1k.py': 'PoolFormer',
    'mmdet mask2former/mask2former_swin-t-p4-w7-224_8xb2-lsj-50e_coco-panoptic.py': 'SwinTransformer',
    'mmdet swin/retinanet_swin-t-p4-w7_fpn_1x_coco.py': 'SwinTransformer',
    'mmdet pvt/retinanet_pvt-t_fpn_1x_coco.py': 'PyramidVisionTransformer',
    'mmseg segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py': 'MixVisionTransformer',
    'mmseg setr/setr_vit-l_naive_8xb1-80k_cityscapes-768x768.py': 'VisionTransformer',
    'mmseg swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py': 'SwinTransformer',
}
CLASSIFIER = """
default_scope = 'mmpretrain'
data_preprocessor = dict(num_classes=10)
model = dict(
    type='ImageClassifier',
    backbone=dict(type='SwinTransformer', img_size=56, arch=dict(embed_dims=32, depths={depths},
                                                                 num_heads=[1, 1, 2, {heads}]), pad_small_map=True),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=256, loss=dict(type='CrossEntropyLoss')))
"""
#: A way to build optimizers that looks at what growing changes.
BY_NUMBER_OF_PARAMETERS = """
from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS

@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class ByNumberOfParameters(DefaultOptimWrapperConstructor):
    def add_params(self, params, module, **kwargs):
        params += [dict(params=list(module.parameters()), lr=1 / len(list(module.parameters())))]
"""


@pytest.fixture
def check(shell) -> Callable[..., subprocess.CompletedProcess]:
    return partial(shell, 'python', SCRIPT)


@pytest.mark.slow
def test_shipped_configs_run_before_and_after(check, tmp_path):
    out = tmp_path / 'table.md'
    pattern = '^(' + '|'.join(key.split()[1] for key in SHIPPED) + ')$'
    run = check('--filter', pattern, '--out', out)
    assert run.returncode == 0, run.stderr
    rows = json.loads(out.with_suffix('.json').read_text())['results']
    assert {key: row['backbone'] for key, row in rows.items()} == SHIPPED
    for key, row in rows.items():
        assert (row['ran'], row['before'], row['after'], row['note']) == ('whole model', '', '', ''), key
    assert '| all |  | 9 | 9 | 9 |' in out.read_text()

    again = check('--filter', pattern, '--out', out)  # nothing is run a second time
    assert again.returncode == 0 and 'before: yes' not in again.stdout
    assert '| all |  | 9 | 9 | 9 |' in out.read_text()


def test_what_fails_is_shown(check, tmp_path):
    (tmp_path / 'by_number_of_parameters.py').write_text(BY_NUMBER_OF_PARAMETERS)
    sgd, right = "type='SGD', lr=0.1, weight_decay=0.1", (2, 2, 2, 2, 4)
    wanted = [  # depths and heads, the optimizer, and what is said of it
        (right, '', 'whole model', 'yes', 'yes', ''),
        # runs, but cannot be expanded
        ((2, 2, 3, 2, 4), '', 'whole model', 'yes', 'ValueError: stages.2.blocks: layer_map=[0, 1, 2, 0, 1, 2]', ''),
        # does not run unchanged either
        ((2, 2, 2, 2, 5), '', 'backbone alone', 'RuntimeError: shape', 'not tried', ''),
        (right, f'optimizer=dict({sgd}), paramwise_cfg=dict(norm_decay_mult=0.)', 'whole model', 'yes', 'yes', ''),
        (right, f"optimizer=dict({sgd}), paramwise_cfg=dict(any=1), constructor='ByNumberOfParameters'", 'whole model',
         'yes', 'the optimizer gives 121 of 121 parameters of the base another learning rate', ''),
        (right, "optimizer=dict(type='NoSuchOptimizer')", 'whole model', 'yes', 'yes',
         'Its optimizer cannot be built before either: TypeError'),
    ]
    configs, out = [tmp_path / f'config_{i}.py' for i in range(len(wanted))], tmp_path / 'table.md'
    for config, ((*depths, heads), optim_wrapper, *_) in zip(configs, wanted, strict=True):
        config.write_text(CLASSIFIER.format(depths=depths, heads=heads) + f"""
import sys
sys.path.append('{tmp_path}')
custom_imports = dict(imports=['by_number_of_parameters'])
optim_wrapper = dict({optim_wrapper})
""")
    run = check(*configs, '--out', out)
    assert run.returncode == 1, run.stderr  # for the second and the fifth
    table = out.read_text()
    assert '| all |  | 6 | 5 | 3 |' in table
    for config, (_, _, *cells, note) in zip(configs, wanted, strict=True):
        row = next(line for line in table.splitlines() if f'| {config} |' in line).split(' | ')
        for cell, start in zip(row[3:6], cells, strict=True):
            assert cell.startswith(start), row
        assert row[7].startswith(note), row


def test_rows_of_one_type(check, tmp_path):
    """And what is refused is said. Nothing is run here."""
    swin, tnt, out = tmp_path / 'swin.py', tmp_path / 'tnt.py', tmp_path / 'table.md'
    swin.write_text(CLASSIFIER.format(depths=(2, 2, 2, 2), heads=4))
    tnt.write_text("default_scope = 'mmpretrain'\nmodel = dict(type='ImageClassifier', backbone=dict(type='TNT'))")
    run = check(swin, tnt, '--type', 'ScaleNet', '--out', out)
    assert run.returncode == 0, run.stderr
    assert '| all |  | 1 | 0 | 0 |' in out.read_text()
    assert f'| {tnt} | TNT | refused | not tried | not tried | 0.0 | a block takes and gives two' in out.read_text()

    other = check(swin, tnt, '--type', 'ScaleNetSwin', '--out', out)
    assert other.returncode == 2 and 'holds results of --type ScaleNet. Give the same types' in other.stderr


def test_a_config_that_is_passed_over_is_named(check, tmp_path):
    config = tmp_path / 'resnet.py'
    config.write_text("model = dict(type='mmpretrain.ImageClassifier', backbone=dict(type='mmpretrain.ResNet'))")
    run = check(config, '--out', tmp_path / 'table.md')
    assert run.returncode == 2 and f'{config}  passed over: no part of its model can become ScaleNet' in run.stdout


def test_results_of_other_versions_are_not_overwritten(check, tmp_path):
    cache = tmp_path / 'table.json'
    cache.write_text(json.dumps(dict(versions=dict(torch='0.1'), results={})))
    run = check('--filter', 'deit', '--out', tmp_path / 'table.md')
    assert run.returncode == 2 and "holds results of {'torch': '0.1'}" in run.stderr
    assert json.loads(cache.read_text())['versions'] == dict(torch='0.1')
