"""tools/analysis_tools/matrix_products.py against torch's own counter of FLOPs."""
import sys
from pathlib import Path

import pytest
import torch
from mmpretrain.models import SwinTransformer, VisionTransformer
from torch.utils.flop_counter import FlopCounterMode

from mmscalenet import ScaleNetDeiT, ScaleNetSwin

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / 'tools/analysis_tools'))
from get_flops import plain_attention  # noqa: E402
from matrix_products import products_of  # noqa: E402
from timing import step  # noqa: E402

VIT = dict(arch=dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64), img_size=32)
SWIN = dict(arch=dict(embed_dims=16, depths=[2, 2], num_heads=[2, 2]), out_indices=(1, ), pad_small_map=True)
MODELS = {'vit': lambda: VisionTransformer(**VIT), 'deit': lambda: ScaleNetDeiT(**VIT, scale=2),
          'mmpretrain': lambda: SwinTransformer(**SWIN), 'swin': lambda: ScaleNetSwin(**SWIN, scale=2)}


def flops(work) -> int:
    with plain_attention(), FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize('name', MODELS)
def test_all_products_and_nothing_else(name, training):
    """Run alone they have the FLOPs of the pass they come from."""
    model, image = MODELS[name](), torch.randn(2, 3, 32, 32)
    with plain_attention():  # as two matrix products, which the counter knows
        products = products_of(model, image, training)
    assert flops(products.run) == flops(lambda: step(model, image, training)) > 0


@pytest.mark.parametrize('training', [False, True])
def test_attention_runs_by_the_kernel_of_the_model(training):
    """One call at each position, and one more in the backward pass."""
    products = products_of(ScaleNetDeiT(**VIT, scale=2), torch.randn(2, 3, 32, 32), training)
    names = [func.name() for func, _ in products._calls]
    assert sum('scaled_dot_product' in name for name in names) == 4 * (1 + training)
    products.run()


def test_operands_have_the_layout_of_the_models():
    """Transposed operands stay so, as their time differs; and the model keeps no gradient."""
    model = MODELS['vit']()
    products = products_of(model, torch.randn(2, 3, 32, 32), training=True)
    assert all(parameter.grad is None for parameter in model.parameters())
    strides = [leaf.stride() for func, (args, _) in products._calls if 'mm' in func.name() for leaf in args
               if isinstance(leaf, torch.Tensor) and leaf.dim() == 2]
    assert any(stride[0] == 1 for stride in strides) and any(stride[1] == 1 for stride in strides)
