"""tools/analysis_tools/get_flops.py against sums done by hand."""
import gc
import sys
import weakref
from pathlib import Path

import pytest
import torch
import torch.nn as nn
from mmcv.transforms import Resize
from mmengine.config import Config

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / 'tools/analysis_tools'))
import get_flops  # noqa: E402

DEIT = 'configs/deit/deit-tiny_trained-on-100e_in1k.py'
SWIN = 'configs/swin/swin-tiny_trained-on-100e_in1k.py'


def figures(config: str, memory: bool = False, backbone: bool = False, shape: list[int] | None = None,
            **options) -> dict[str, str]:
    cfg = Config.fromfile(ROOT / config)
    cfg.merge_from_dict({f'model.backbone.{key}': value for key, value in options.items()})
    return get_flops.measure(cfg, shape, backbone, memory)


def deit_by_hand(positions: int, adapter: int = 0, d: int = 192, n: int = 197) -> float:
    """Patches, then qkv, the two products of attention, its projection, FFN and adapter at each position; the head."""
    position = n * d * 3 * d + 2 * n * n * d + n * d * d + 2 * n * d * 4 * d + 2 * n * d * adapter
    return (196 * 16 * 16 * 3 * d + positions * position + d * 1000) / 1e9


def swin_by_hand(positions: list[int], d: int = 96, window: int = 7) -> float:
    total, n = 56 * 56 * 4 * 4 * 3 * d, 56 * 56
    for stage, count in enumerate(positions):
        total += count * (n * d * 3 * d + 2 * n * window**2 * d + n * d * d + 2 * n * d * 4 * d)
        if stage < 3:
            n, d = n // 4, 2 * d
            total += n * 2 * d * d  # merging: 4 d / 2 channels to d
    return (total + d * 1000) / 1e9


@pytest.mark.parametrize('pipeline, preprocessor, expected', [
    ([dict(type='mmdet.Resize', scale=(1333, 800), keep_ratio=True), dict(type='PackDetInputs')], {}, [800, 1333]),
    ([dict(type=Resize, scale=(640, 480))], {}, [480, 640]),
    ([dict(type='Resize', scale=(2048, 512))], dict(size=(512, 512)), [512, 512]),
    ([dict(type='ResizeEdge', scale=256), dict(type='CenterCrop', crop_size=224)], {}, [224]),
    ([dict(type='LoadImageFromFile')], {}, [96])])
def test_images_that_the_model_sees(pipeline, preprocessor, expected):
    """Also where the data set is wrapped and a type is a class."""
    dataset = dict(type='RepeatDataset', times=2, dataset=dict(type='CocoDataset', pipeline=pipeline))
    cfg = Config(dict(model=dict(backbone=dict(img_size=96), data_preprocessor=preprocessor),
                      test_dataloader=dict(dataset=dataset)))
    assert get_flops.image_shape(cfg) == expected
    assert get_flops.image_shape(Config(dict(model=dict(backbone=dict())))) == [224]


@pytest.mark.parametrize('scale', [1, 1.5, 2])
def test_deit_tiny(scale):
    row = figures(DEIT, scale=scale)
    assert float(row['multiply-adds (G)']) == pytest.approx(deit_by_hand(int(12 * scale)), abs=6e-4)
    assert row['parameters (M)'] == '5.717'  # sharing alone adds none


def test_deit_tiny_with_adapters():
    row = figures('configs/deit/scalenet-deit-tiny-x2_100e_in1k.py')
    assert float(row['multiply-adds (G)']) == pytest.approx(deit_by_hand(24, adapter=80), abs=6e-4)
    assert row['image'] == '3x224x224'


@pytest.mark.parametrize('options', [dict(), dict(sdpa=False), dict(scale=2)])
def test_swin_tiny(options):
    """With our window attention, which runs through torch's SDPA, and with the parent's."""
    row = figures(SWIN, **options)
    expected = swin_by_hand([options.get('scale', 1) * depth for depth in (2, 2, 6, 2)])
    assert float(row['multiply-adds (G)']) == pytest.approx(expected, abs=6e-4)
    assert row['parameters (M)'] == '28.288'


def test_attention_kernels_are_put_back():
    before = torch.backends.cuda.flash_sdp_enabled()
    figures(DEIT, shape=[32], img_size=32)
    assert torch.backends.cuda.flash_sdp_enabled() == before


class Known(nn.Module):
    """Saves for backward: the input of each linear map (its weight is no activation) and the output of the sigmoid."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(32, 64), nn.Linear(64, 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x).sigmoid())


def test_activations_by_hand():
    """A row of 32 floats, and the 64 after the sigmoid: needed by it and by the second map, counted once."""
    assert get_flops.count_activation_bytes(Known(), (3, 10, 32)) == 3 * 10 * (32 + 64) * 4


def test_nothing_stays_in_memory():
    """What was kept is freed with the count; a graph that holds its own outputs would not be."""
    outputs = []
    model = Known()
    model.second.register_forward_pre_hook(lambda module, inputs: outputs.append(weakref.ref(inputs[0])))
    get_flops.count_activation_bytes(model, (3, 10, 32))
    gc.collect()
    assert len(outputs) == 1 and outputs[0]() is None


def test_memory_grows_with_depth():
    base, grown = (float(figures(DEIT, memory=True, scale=scale)['activations (MiB per image)']) for scale in (1, 2))
    assert 1.9 < grown / base < 2.1


@pytest.mark.parametrize('library, config, depth', [
    pytest.param('mmdet', 'mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py', [2, 2, 6, 2], marks=pytest.mark.slow),
    ('mmseg', 'swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py', [2, 2, 6, 2]),
])
def test_other_libraries(library, config, depth):
    """Whole models of mmdet and mmseg, and their backbones alone, of a config they ship."""
    package = __import__(library)
    cfg = Config.fromfile(Path(package.__file__).parent / '.mim/configs/swin' / config)
    cfg.model.backbone.update(type='mmscalenet.ScaleNetSwin', init_cfg=None, scale=1, adapter=None)
    alone = get_flops.measure(Config(cfg.to_dict()), [224], backbone=True, memory=False)
    assert float(alone['multiply-adds (G)']) == pytest.approx(swin_by_hand(depth), abs=1.5e-3)  # here without the head
    part, whole = (get_flops.measure(Config(cfg.to_dict()), [64, 96], backbone, memory=True)
                   for backbone in (True, False))
    assert whole['image'] == '3x64x96'
    assert part['parameters (M)'] == alone['parameters (M)']
    for figure in ('parameters (M)', 'multiply-adds (G)', 'activations (MiB per image)'):
        assert float(whole[figure]) > float(part[figure]) > 0, figure


def run(monkeypatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, 'argv', ['tools/analysis_tools/get_flops.py', *map(str, arguments)])
    monkeypatch.chdir(ROOT)
    get_flops.main()


def test_command(monkeypatch, tmp_path, capsys):
    out = tmp_path / 'table.md'
    run(monkeypatch, 'configs/fashion/scalenet-deit-mini-x2_3e_fashion-mnist.py', '--scales', 1, 2, 3, '--out', out)
    text = out.read_text()
    assert text.startswith('Made by `python tools/analysis_tools/get_flops.py configs/fashion/scalenet-deit-mini')
    table = text.split('\n\n')[1].strip()
    assert table in capsys.readouterr().out
    rows = [line.strip('| ').split(' | ') for line in table.splitlines()]
    assert [row[0].split(', ')[-1] for row in rows[2:]] == ['scale 1', 'scale 2', 'scale 3']
    assert {row[1] for row in rows[2:]} == {'1x28x28'}
    adds = [float(row[3]) for row in rows[2:]]
    assert adds[2] - adds[1] == pytest.approx(adds[1] - adds[0], abs=2e-3)


@pytest.mark.parametrize('arguments, words', [
    (('nowhere.py', ), 'nowhere.py'),
    ((DEIT, '--shape', 224, 224, 3), '--shape'),
    (('configs/fashion/deit-mini_9e_fashion-mnist.py', '--scales', 2), 'VisionTransformer'),
    ((DEIT, '--cfg-options', 'model.backbone=None'), 'no model.backbone'),
])
def test_refused(monkeypatch, capsys, tmp_path, arguments, words):
    with pytest.raises(SystemExit):
        run(monkeypatch, *arguments, '--out', tmp_path / 'table.md')
    error = capsys.readouterr().err.strip().splitlines()
    assert error[-1].startswith('error: ') and words in error[-1]
    assert not (tmp_path / 'table.md').exists()
