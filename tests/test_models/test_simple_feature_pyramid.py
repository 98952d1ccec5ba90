import pytest
import torch
from mmengine.registry import MODELS

from mmscalenet.models.necks import SimpleFeaturePyramid


@pytest.mark.parametrize('size', [(4, 6), (5, 7)])
@pytest.mark.parametrize('num_outs', [4, 5, 6])
def test_strides_and_channels(size, num_outs):
    neck = MODELS.build(dict(type='mmscalenet.SimpleFeaturePyramid', in_channels=[16], out_channels=8,
                             num_outs=num_outs))
    neck.init_weights()
    height, width = size
    outs = neck((torch.zeros(2, 16, 1, 1), torch.randn(2, 16, height, width)))  # the last input counts
    expected = [(4 * height, 4 * width), (2 * height, 2 * width), (height, width)]
    while len(expected) < num_outs:
        expected.append(tuple(-(-n // 2) for n in expected[-1]))
    assert [tuple(o.shape) for o in outs] == [(2, 8, *hw) for hw in expected]
    sum(o.square().sum() for o in outs).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in neck.parameters())


def test_every_level_is_normalised_over_its_channels():
    neck = SimpleFeaturePyramid(16, 8)
    for out in neck((1000 * torch.randn(1, 16, 4, 4), )):
        torch.testing.assert_close(out.mean(1), torch.zeros_like(out[:, 0]), atol=1e-5, rtol=0)
        torch.testing.assert_close(out.square().mean(1), torch.ones_like(out[:, 0]), atol=1e-2, rtol=0)


@pytest.mark.parametrize('arguments, message', [
    (dict(in_channels=[8, 16]), 'in_channels=\\[8, 16\\]'),
    (dict(in_channels=6), 'in_channels=6'),
    (dict(in_channels=8, num_outs=3), 'num_outs=3'),
])
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        SimpleFeaturePyramid(**arguments)
