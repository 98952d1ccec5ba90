"""tools/analysis_tools/plan_expansion.py against nets that are built from its rows and counted one by one."""
import json
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from PIL import Image

from mmscalenet.engine.grown_config import scalenet_options
from mmscalenet.expansion import position_lists

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / 'tools/analysis_tools'))
import get_flops  # noqa: E402
import plan_budgets  # noqa: E402
import plan_candidates  # noqa: E402
import timing  # noqa: E402
from plan_candidates import Blocks  # noqa: E402

SCRIPT = 'analysis_tools/plan_expansion.py'
DEIT = ROOT / 'configs/deit/deit-tiny_trained-on-100e_in1k.py'
PLAIN = ROOT / 'configs/fashion/deit-mini_9e_fashion-mnist.py'


@pytest.fixture
def plan(tool, tmp_path):
    """Run the tool on a config; what it wrote as JSON."""

    def run(config: Path, *args: object) -> dict:
        tool(SCRIPT, config, '--device', 'cpu', '--json', tmp_path / 'plan.json', *args)
        return json.loads((tmp_path / 'plan.json').read_text())

    return run


def pasted(config: Path, options: str, backbone: bool, **more) -> torch.nn.Module:
    """The net of a config with the options of a row in its backbone."""
    cfg = Config.fromfile(config)
    cfg.model.backbone.update(eval(f'dict({options})'), **more)
    return get_flops.build(cfg, backbone)


def expect_counted(config: Path, plan: dict, row: dict, option: int = 0) -> None:
    """The figures of a row are those of the net that its options give."""
    shape, alone, options = tuple(plan['shape']), plan['backbone_alone'], row['options'][option]['text']
    model = pasted(config, options, alone)
    net = model if alone else model.backbone
    assert [len(positions) for positions in position_lists(net).values()] == row['positions']
    assert sum(p.numel() for p in model.parameters()) == row['parameters']
    assert get_flops.count_multiply_adds(model, shape) == row['multiply_adds']
    for positions in position_lists(net).values():
        for position in positions.positions:
            position.with_cp = False
    # drop path keeps a number for each branch and image
    slack = 16 * sum(row['positions'])
    assert get_flops.count_activation_bytes(model, shape) == pytest.approx(row['activations'], abs=slack)
    weights = 4 * row['parameters'] + 12 * sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert row['memory'] == weights + plan['batch_size'] * row['activations']
    assert row['memory_checkpointed'] == weights + plan['batch_size'] * row['activations_checkpointed']
    assert json.loads(json.dumps(eval(f'dict({options})'))) == row['options'][option]['arguments']


def some(rows: list[dict]) -> list[dict]:
    """The deepest with the widest adapters, one between and the shallowest without."""
    rows = sorted(rows, key=lambda row: (sum(row['positions']), row['parameters']))
    return [rows[-1], rows[len(rows) // 2], rows[0]]


@pytest.mark.parametrize('backbone', [
    {},
    dict(gate=0.1, unshare='norms', drop_path_rate=0.1),
    dict(share=False),
    dict(frozen_stages=1),
    dict(gate='1/N', adapter=dict(type='ParallelAdapter', scale=0.1, dropout=0.1)),
    dict(layer_map='middle_cycle', core=(0, 0), depth=3, adapter=dict(type='LoRA')),
    dict(window_size=2, global_positions=1, with_cls_token=False, out_type='featmap'),
])
def test_deit(plan, cls_fields, write_config, backbone):
    """Of a tiny DeiT; what else its config says of the backbone holds for all rows."""
    cls_fields['model']['backbone'].update(backbone)
    config = write_config(cls_fields)
    alone = ['--backbone'] if 'window_size' in backbone else []
    found = plan(config, '--params', '1B', '--no-latency', '--max-scale', 2, *alone)
    assert sorted({tuple(row['positions']) for row in found['rows']}) == [(2, ), (3, ), (4, )]
    for row in some(found['rows']):
        expect_counted(config, found, row, option=-1)


def test_deit_tiny(plan):
    """The real one, with a core, at its size."""
    found = plan(DEIT, '--params', '1B', '--no-latency', '--max-scale', 1.4)
    row = next(row for row in found['rows'] if row['positions'] == [16] and row['parameters'] > 6.5e6)
    texts = [option['text'] for option in row['options']]
    assert len(texts) == 4 and "layer_map='middle_cycle', core=(4, 7), " in texts[-1]
    expect_counted(DEIT, found, row, option=-1)
    model = pasted(DEIT, texts[-1], False)
    assert position_lists(model)['backbone.layers'].layer_map == [*range(8), *range(4, 12)]
    base = [row for row in found['rows'] if row['positions'] == [12]]
    assert min(row['parameters'] for row in base) == 5_717_416  # DeiT-Tiny of the model zoo


def test_swin_segmentor(plan, seg_fields, write_config):
    """A whole segmentor: the deepest stage alone (here the first of four alike) and all of them."""
    config = write_config(seg_fields)
    found = plan(config, '--params', '1B', '--no-latency', '--shape', 64, 96, '--max-scale', 2)
    assert {tuple(row['positions']) for row in found['rows']} == {(2, 2, 2, 2), (4, 2, 2, 2), (4, 4, 4, 4)}
    for row in some(found['rows']):
        expect_counted(config, found, row)


def test_detector(plan, det_fields, write_config):
    """A whole detector, which has as many proposals in each net."""
    det_fields['model']['test_cfg'] = dict(rpn=dict(max_per_img=5))
    config = write_config(det_fields)
    found = plan(config, '--params', '1B', '--no-latency', '--shape', 64, '--max-scale', 2)
    for row in some(found['rows'])[:2]:
        expect_counted(config, found, row)


@pytest.mark.parametrize('library, config, start', [
    pytest.param('mmdet', 'swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py',
                 "type='mmscalenet.ScaleNetSwin', scale=[1, 1, 4/3, 1], ", marks=pytest.mark.slow),
    ('mmpretrain', 'deit/deit-tiny-distilled_4xb256_in1k.py', "type='mmscalenet.ScaleNetDeiT', "
     "base='mmpretrain.DistilledVisionTransformer', scale=4/3, "),
    ('mmseg', 'vit/vit_deit-s16_upernet_8xb2-80k_ade20k-512x512.py', "type='mmscalenet.ScaleNetDeiT', scale=4/3, "),
    ('mmseg', 'segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py', "type='mmscalenet.ScaleNet', "
     "base='mmseg.MixVisionTransformer', "),
    ('mmpretrain', 'convnext/convnext-tiny_32xb128_in1k.py', "type='mmscalenet.ScaleNet', "
     "base='mmpretrain.ConvNeXt', "),
])
def test_configs_of_the_libraries(plan, capsys, library, config, start):
    """With a plain backbone, which the options of a row replace."""
    config = Path(__import__(library).__file__).parent / '.mim/configs' / config
    found = plan(config, '--params', '1B', '--no-latency', '--shape', 64, '--max-scale', 1.4, '--backbone')
    row = found['rows'][0]
    assert row['options'][0]['text'].startswith(start)
    expect_counted(config, found, row)
    assert "custom_imports=dict(imports=['mmscalenet']" in capsys.readouterr().out


def test_checkpointing(plan, cls_fields, seg_fields, write_config):
    """What positions keep between, and what the largest of them holds while it is recomputed."""
    for fields, shape, name in ((cls_fields, (3, 32, 32), 'cls'), (seg_fields, (3, 64, 64), 'seg')):
        config = write_config(fields, name)
        found = plan(config, '--params', '1B', '--no-latency', '--shape', *shape[1:], '--max-scale', 2)
        row = next(row for row in found['rows'] if row['options'][0]['text'].startswith('scale=2,')
                   and row['options'][0]['text'].endswith('None'))

        def kept(scale: object, with_cp: bool, config: Path = config, shape: tuple = shape) -> int:
            net = pasted(config, f'scale={scale}, adapter=None', False, with_cp=with_cp)
            return get_flops.count_activation_bytes(net, shape)

        recomputed = []
        for stage in range(len(row['positions'])):  # what added positions keep beyond their inputs
            scale = [2 if i == stage else 1 for i in range(len(row['positions']))]
            added = [kept(scale, with_cp) - kept([1] * len(scale), with_cp) for with_cp in (False, True)]
            recomputed.append((added[0] - added[1]) / 2)
        expected = kept(2, with_cp=True) + max(recomputed)
        assert row['activations_checkpointed'] == pytest.approx(expected, abs=64)
        assert kept(2, with_cp=True) < row['activations_checkpointed'] < row['activations']


def test_what_fits(plan, cls_fields, write_config, capsys):
    """Every budget at once, in order, and with_cp=True where only that helps."""
    config = write_config(cls_fields)
    every = plan(config, '--params', '1B', '--no-latency', '--batch-size', 64)['rows']
    middle = some(every)[1]
    limits = dict(params=max(row['parameters'] for row in every) - 1,
                  gflops=(max(row['multiply_adds'] for row in every) - 1) / 1e9,
                  memory=(middle['memory'] + min(row['memory'] for row in every)) / 2 / 2**20)
    capsys.readouterr()
    found = plan(config, '--params', limits['params'], '--gflops', limits['gflops'], '--memory', f'{limits["memory"]}M',
                 '--no-latency', '--batch-size', 64, '--top', 3)['rows']
    assert len(found) == len(every)
    for row in found:
        over = {'params': row['parameters'] - limits['params'], 'gflops': row['multiply_adds'] / 1e9 - limits['gflops'],
                'memory': row['memory_checkpointed'] / 2**20 - limits['memory']}
        assert row['fits'] == all(excess <= 0 for excess in over.values())
        assert set(row['exceeds']) == {name for name, excess in over.items() if excess > 0}
        assert row['options'][0]['text'].endswith(', with_cp=True') == (row['memory'] / 2**20 > limits['memory'])
    fitting = [row for row in found if row['fits']]
    assert fitting == found[:len(fitting)] and 3 < len(fitting) < len(found)
    ranks = [(sum(row['positions']), row['parameters']) for row in fitting]
    assert ranks == sorted(ranks, reverse=True)
    assert {row['options'][0]['text'].endswith('with_cp=True') for row in fitting} == {True, False}
    net = pasted(config, fitting[0]['options'][0]['text'], True)
    assert all(position.with_cp for position in position_lists(net)['layers'].positions)
    lines = capsys.readouterr().out.splitlines()
    assert f'{len(fitting)} of {len(found)} sizes (depth and width of adapters) fit; the first 3 of them:' in lines
    shown = [line for line in lines if "layer_map='" in line and 'maps' not in line and line[0].isdigit()]
    assert [line[line.index('scale='):] for line in shown] == [row['options'][0]['text'] for row in fitting[:3]]


def test_nothing_fits(plan, capsys):
    """The nearest is named, with the budget that it exceeds and by how much."""
    rows = plan(PLAIN, '--params', '200K', '--gflops', '1', '--no-latency')['rows']
    assert not any(row['fits'] for row in rows)
    assert rows[0]['parameters'] == min(row['parameters'] for row in rows)
    assert rows[0]['exceeds'] == dict(params=pytest.approx(rows[0]['parameters'] / 200e3 - 1))
    said = capsys.readouterr().out
    assert f'Nothing fits. The nearest of {len(rows)} sizes (depth and width of adapters) takes ' in said
    assert f'{rows[0]["parameters"] / 1e6:.4g} M parameters, {rows[0]["exceeds"]["params"]:.1%} above the budget of ' \
        '0.2 M parameters:' in said
    assert said.count('scale=') == 1


def test_latency(plan, capsys, monkeypatch):
    """Measured where it is shown, added up elsewhere, and held against the budget: by a clock of a second a GFLOP."""
    def clocked(work, is_cuda: bool) -> float:
        with get_flops.counting() as counter:
            work()
        return counter.get_total_flops() / 1e9

    monkeypatch.setattr(timing, 'clocked', clocked)
    config = ['--runs', 2, '--threads', 1, '--top', 2, '--shape', 64, '--max-scale', 1.5]
    rows = plan(DEIT, '--params', '5.8M', '--latency', '100s', *config)['rows']
    measured = [row['latency_is_measured'] for row in rows]
    assert measured == [True, True] + [False] * (len(rows) - 2)
    for row in rows:
        assert row['latency'] == pytest.approx(2 * row['multiply_adds'] / 1e9, rel=1e-6)
    assert rows[0]['positions'] == [18] and {tuple(row['positions']) for row in rows} > {(12, ), (18, )}
    capsys.readouterr()
    rows = plan(DEIT, '--latency', '0.001', *config)['rows']
    assert [row['latency_is_measured'] for row in rows] == [True] + [False] * (len(rows) - 1)
    assert all(row['exceeds']['latency'] > 0 for row in rows)
    assert 'above the budget of 0.001 ms of latency' in capsys.readouterr().out


def test_the_clock(plan):
    """The real one, of which this much is sure."""
    rows = plan(PLAIN, '--params', '0.5M', '--runs', 1, '--top', 1)['rows']
    assert 0 < rows[0]['latency'] < 1 and rows[0]['latency_is_measured']


def test_files(plan, tmp_path, capsys):
    out, plot = tmp_path / 'plan.md', tmp_path / 'plan.png'
    plan(PLAIN, '--params', '0.5M', '--memory', '10M', '--top', 4, '--runs', 1, '--out', out, '--plot', plot)
    parts = out.read_text().split('\n\n')
    assert parts[0].startswith('Made by `python ') and '--params 0.5M --memory 10M --top 4' in parts[0]
    assert parts[-1].strip() == '![Cost over depth](plan.png)'
    table = [line.strip('| ').split(' | ') for line in next(p for p in parts if p.startswith('|')).splitlines()]
    assert table[0][0] == 'positions' and table[0][-1] == 'options' and len(table) == 2 + 4
    said = capsys.readouterr().out
    for row in table[2:]:
        cells = [cell.strip('`') for cell in row]
        assert any(line.split('  ')[0] == cells[0] and line.endswith(cells[-1]) for line in said.splitlines())
    timed = Image.open(plot).convert('RGB')
    assert len(timed.getcolors(1 << 24)) > 10
    plan(PLAIN, '--params', '0.5M', '--no-latency', '--plot', plot)
    assert Image.open(plot).width == pytest.approx(timed.width * 3 / 4, abs=2)  # three panels, not four


@pytest.mark.parametrize('arguments, words', [
    ([], 'no budget: give at least one of --params, --gflops, --memory, --latency'),
    (['--params', '30X'], '--params 30X is not allowed'),
    (['--params=-3M'], '--params -3M is not allowed'),
    (['--gflops', '0'], '--gflops 0 is not allowed'),
    (['--memory', '20'], '--memory 20 is not allowed: give a number above 0, MiB or GiB with M or G, e.g. 20G'),
    (['--latency', '80 minutes'], '--latency 80 minutes is not allowed'),
    (['--latency', '80ms', '--no-latency'], '--latency cannot be kept to with --no-latency'),
    (['--params', '1M', '--shape', '1', '2', '3'], '--shape [1, 2, 3] is not allowed'),
    (['--params', '1M', '--max-scale', '0.5'], '--max-scale 0.5 is not allowed'),
    (['--params', '1M', '--batch-size', '0'], '--batch-size 0 is not allowed'),
    (['--params', '1M', '--device', 'abacus'], '--device abacus cannot be used'),
    (['--params', '1M', '--plot', 'plan.pdf'], '--plot "plan.pdf": the name must end in .png'),
    (['--params', '1M', '--cfg-options', 'model.backbone.type=ResNet'], 'ResNet, is none that is expanded here'),
    (['--params', '1M', '--cfg-options', 'model.backbone.type=mmscalenet.ScaleNetDeiT', 'model.backbone.gate=x'],
     "the config is refused: gate='x'"),
])
def test_refused(tool, capsys, arguments, words):
    with pytest.raises(SystemExit):
        tool(SCRIPT, PLAIN, *(arguments if '--device' in arguments else [*arguments, '--device', 'cpu']))
    error = capsys.readouterr().err.strip().splitlines()
    assert error[-1].startswith('error: ') and words in error[-1]


@pytest.mark.parametrize('name, text, value', [
    ('params', '30M', 30e6), ('params', '1.2B', 1.2e9), ('params', '22000000', 22e6), ('params', '5e6', 5e6),
    ('gflops', '250', 250e9), ('memory', '20G', 20 * 2**30), ('memory', '512MiB', 2**29),
    ('latency', '80ms', 0.08), ('latency', '0.08s', 0.08), ('latency', '80', 0.08),
])
def test_units(name, text, value):
    assert plan_budgets.parse_budget(name, text) == pytest.approx(value)


def test_candidates_of_a_swin():
    """Whole pairs, in the deepest stage or in all; of maps that are one net the first."""
    lists = [Blocks(depth, 2) for depth in (2, 2, 18, 2)]
    texts = [c.text for c in plan_candidates.candidates(lists, 2) if c.ratio is None]
    scales = list(dict.fromkeys(text.split(', layer_map')[0] for text in texts))
    assert scales == ['scale=1', 'scale=[1, 1, 4/3, 1]', 'scale=[1, 1, 5/3, 1]', 'scale=2', 'scale=[1, 1, 2, 1]']
    assert "scale=[1, 1, 4/3, 1], layer_map='middle_cycle', core=[None, None, (6, 11), None], adapter=None" in texts
    assert [text for text in texts if text.startswith('scale=1,')] == ["scale=1, layer_map='cyclic', adapter=None"]


@pytest.mark.parametrize('depth, period, parts, core', [
    (12, 1, 3, (4, 7)), (12, 1, 2, (3, 8)), (6, 2, 3, (2, 3)), (18, 2, 3, (6, 11)), (24, 1, 3, (8, 15)),
    (2, 1, 3, None), (3, 2, 3, None),
])
def test_middle(depth, period, parts, core):
    assert plan_candidates.middle(Blocks(depth, period), parts) == core


def test_maps_that_do_not_go_with_the_config(plan, cls_fields, write_config, capsys):
    """inject=True needs a core, which an interleaved map has not."""
    cls_fields['model']['backbone'].update(inject=True)
    found = plan(write_config(cls_fields), '--params', '1B', '--no-latency', '--max-scale', 1.5)
    texts = [option['text'] for row in found['rows'] for option in row['options']]
    assert len(texts) == 8 and not any('interleaved' in text for text in texts)
    assert 'left out: 4 that do not go with other options' in capsys.readouterr().err


def test_kind_of_a_plain_backbone():
    """A backbone of another library than its config's is named."""
    cfg = Config(dict(model=dict(backbone=dict(type='mmpretrain.SwinTransformer'))))
    assert scalenet_options(cfg) == dict(type='mmscalenet.ScaleNetSwin', base='mmpretrain.SwinTransformer')
