"""tools/deployment/export_onnx.py: files of small models in ONNX Runtime against the models themselves."""
import sys
from pathlib import Path

import pytest
import torch
from parents import build_scalenet, flatten, image, randomise
from torch import nn
from trained import write_checkpoint

from mmscalenet.deployment import Computed, difference, write_onnx
from mmscalenet.deployment.pooling import ProductPool
from mmscalenet.engine import UsageError

pytest.importorskip('onnx')
runtime = pytest.importorskip('onnxruntime')
TOOL = 'deployment/export_onnx.py'


def session(path: Path):
    return runtime.InferenceSession(str(path), providers=['CPUExecutionProvider'])


def check(path: Path, images: torch.Tensor, expected: object) -> None:
    outputs = session(path).run(None, {'image': images.numpy()})
    with torch.no_grad():
        for one, other in zip(outputs, flatten(expected), strict=True):
            torch.testing.assert_close(torch.from_numpy(one), other, rtol=1e-4, atol=1e-4)


def shapes(path: Path) -> dict[str, list]:
    return {value.name: value.shape for value in (*session(path).get_inputs(), *session(path).get_outputs())}


def test_a_classifier_at_any_size(cls_fields, write_config, tool, tmp_path, capsys):
    config = write_config(cls_fields)
    model = write_checkpoint(config, tmp_path / 'best.pth')
    tool(TOOL, config, tmp_path / 'best.pth', '--dynamic')
    said = capsys.readouterr().out
    for words in ('best.onnx: the whole classifier', 'backbone unrolled: 4 positions', 'batch x 2',
                  'batch x 3 x height x width', 'RGB, mean 127, 127, 127, std 60, 60, 60', 'greatest difference'):
        assert words in said
    assert shapes(tmp_path / 'best.onnx') == dict(image=['batch', 3, 'height', 'width'], logits=['batch', 2])
    for size, batch in (((32, 32), 1), ((32, 32), 5), ((48, 24), 2), ((96, 64), 4)):  # not those the tool compares at
        images = image(size, batch)
        check(tmp_path / 'best.onnx', images, model(images, mode='tensor'))


def test_more_than_a_file_holds(cls_fields, write_config, tool, tmp_path, monkeypatch, capsys):
    """torch would write a file for every weight beside it."""
    config = write_config(cls_fields)
    write_checkpoint(config, tmp_path / 'best.pth')
    monkeypatch.setattr('mmscalenet.deployment.onnx_file.LARGEST', 10**4)
    before = set(tmp_path.iterdir())
    with pytest.raises(SystemExit):
        tool(TOOL, config, tmp_path / 'best.pth')
    assert 'error: no file is written: the weights take 0.0 GB once every position' in capsys.readouterr().err
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize('options, depth', [((), 4), (('--depth', 3), 3), (('--depth', 2), 2)])
def test_the_depth_is_chosen(options, depth, cls_fields, write_config, tool, tmp_path):
    config = write_config(cls_fields)
    model = write_checkpoint(config, tmp_path / 'best.pth')
    tool(TOOL, config, tmp_path / 'best.pth', '--out', 'x.onnx', *options)
    model.backbone.set_depth(depth)
    check(tmp_path / 'x.onnx', image((32, 32), 1), model(image((32, 32), 1), mode='tensor'))


def test_the_depth_of_the_checkpoint(cls_fields, write_config, tool, tmp_path):
    config = write_config(cls_fields)
    model = write_checkpoint(config, tmp_path / 'best.pth', depth=[3])
    tool(TOOL, config, tmp_path / 'best.pth')
    check(tmp_path / 'best.onnx', image((32, 32), 1), model(image((32, 32), 1), mode='tensor'))


def test_a_segmentor(seg_fields, write_config, tool, tmp_path):
    """UperNet, whose pyramid pools 2 x 3 elements to 1, 2, 3 and 6."""
    seg_fields['model']['decode_head'] = dict(
        type='UPerHead', in_channels=[8, 16, 32, 64], in_index=[0, 1, 2, 3], pool_scales=(1, 2, 3, 6), channels=8,
        num_classes=3, norm_cfg=dict(type='BN'), align_corners=False, loss_decode=dict(type='CrossEntropyLoss'))
    config = write_config(seg_fields)
    model = write_checkpoint(config, tmp_path / 'best.pth')
    tool(TOOL, config, tmp_path / 'best.pth', '--shape', 64, 96, '--batch-size', 2)
    assert shapes(tmp_path / 'best.onnx') == dict(image=[2, 3, 64, 96], logits=[2, 3, 64, 96])
    images = image((64, 96))
    expected = nn.functional.interpolate(model(images), (64, 96), mode='bilinear')
    check(tmp_path / 'best.onnx', images, expected)


def test_a_detector_without_its_heads(det_fields, write_config, tool, tmp_path, capsys):
    config = write_config(det_fields)
    model = write_checkpoint(config, tmp_path / 'best.pth')
    tool(TOOL, config, tmp_path / 'best.pth', '--shape', 64)
    assert 'backbone and neck alone: proposals, boxes and masks are not in it' in capsys.readouterr().out
    check(tmp_path / 'best.onnx', image(batch=1), model.extract_feat(image(batch=1)))
    tool(TOOL, config, tmp_path / 'best.pth', '--shape', 64, '--backbone', '--out', 'backbone.onnx')
    assert 'the backbone alone' in capsys.readouterr().out
    check(tmp_path / 'backbone.onnx', image(batch=1), model.backbone(image(batch=1)))


@pytest.mark.parametrize('arguments, words', [
    (('--dynamic', ), 'WindowAttention cuts maps into windows'),
    (('--depth', 3), 'depth=3 is not allowed'),
    (('--shape', 64, 64, 3), '--shape [64, 64, 3]'),
    (('--dynamic', '--batch-size', 2), '--batch-size 2'),
    (('--out', 'config.py'), '"config.py" exists already'),
])
def test_refused(arguments, words, det_fields, write_config, tool, tmp_path, capsys):
    config = write_config(det_fields, 'config')
    write_checkpoint(config, tmp_path / 'best.pth')
    with pytest.raises(SystemExit):
        tool(TOOL, config, tmp_path / 'best.pth', *arguments)
    error = capsys.readouterr().err.strip().splitlines()
    assert error[-1].startswith('error: ') and words in error[-1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ['best.pth', 'config.py']


def test_without_onnxruntime(monkeypatch, tool, capsys):
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    with pytest.raises(SystemExit):
        tool(TOOL, 'config.py', 'checkpoint.pth')
    assert capsys.readouterr().err.startswith('error: onnxruntime is missing: pip install onnx onnxruntime')


class Alone(nn.Module):
    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone


class Branches(nn.Module):
    """A trace keeps one of the two branches."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3)) if x.shape[-1] > 40 else x.sum((2, 3))


def test_a_wrong_file_is_not_left(tmp_path):
    computed = Computed(Alone(Branches()))
    with pytest.raises(UsageError, match='on images of 1x3x32x32 ONNX Runtime and PyTorch differ by'):
        write_onnx(computed, tmp_path / 'x.onnx', 3, (32, 32), dynamic=True)
    assert not list(tmp_path.iterdir())
    write_onnx(computed, tmp_path / 'x.onnx', 3, (32, 32))  # right where nothing is said of other sizes


def test_what_torch_cannot_export(tmp_path):
    class Unknown(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.linalg.svdvals(x)

    with pytest.raises(UsageError, match='torch cannot export this model'):
        write_onnx(Computed(Alone(Unknown())), tmp_path / 'x.onnx', 3, (32, 32))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('name, dynamic, options', [
    ('mmpretrain-vit', True, dict(adapter=dict(type='LoRA'), gate=0.5)),
    ('mmseg-vit', True, dict(layer_map='middle_cycle', inject=True, gate='1/N')),
    ('mmseg-swin', False, dict(adapter=dict(type='LoRA'), unshare='norms')),
])
def test_options(name, dynamic, options, tmp_path):
    model = randomise(build_scalenet(name, **options)).eval()
    sizes = [((64, 64), 1)] + [((48, 64), 3)] * dynamic
    expected = [model(image(*size)) for size in sizes]
    written = write_onnx(Computed(Alone(model)), tmp_path / 'x.onnx', 3, (64, 64), dynamic=dynamic)
    assert len(written.differences) == 1 + 2 * dynamic and max(written.differences.values()) < 1e-5
    for size, outputs in zip(sizes, expected, strict=True):
        check(tmp_path / 'x.onnx', image(*size), outputs)


@pytest.mark.parametrize('size', [(16, 16), (5, 7), (2, 3), (12, 6)])
def test_pooling(size):
    maps = torch.randn(2, 3, *size)
    for count in ((2, 2), (3, 3), (6, 6), (2, 5)):
        torch.testing.assert_close(ProductPool(count)(maps), nn.AdaptiveAvgPool2d(count)(maps))


def test_differences():
    one = torch.tensor([1., 100.])
    assert difference(one, one) == 0
    assert difference(one + 1, one) == pytest.approx(0.01) and difference(one[:1] + 1, one[:1]) == 1
    assert difference(one, one[:1]) == difference(one * float('nan'), one) == float('inf')
