"""``with_cp='light'``: norms and activations are made again for the backward pass, and nothing else changes."""
import gc
from contextlib import nullcontext

import pytest
import torch
from families import FAMILIES, build_family, family_image
from mmengine.utils import digit_version
from mmpretrain.models.utils import LayerNorm2d as LN2d
from parents import PARENTS, build_scalenet, flatten, image, randomise
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

import mmscalenet
from mmscalenet import ScaleNetDeiT, ScaleNetSwin
from mmscalenet.engine.optimizers.cpu_amp import layer_norm_in_float32
from mmscalenet.expansion.recompute import cheap_recomputed

OPTIONS = [dict(), dict(gate='1/N', unshare='norms'), dict(adapter=dict(type='LoRA', rank=2)),
           dict(share=False, adapter=None), dict(inject=True, drop_path_rate=0.3), dict(freeze='base')]


def step(model: torch.nn.Module, x: torch.Tensor, dtype: torch.dtype | None = None) -> list[torch.Tensor]:
    """Outputs and gradients of a training step."""
    torch.manual_seed(3)
    model.train()
    if dtype is not None:
        layer_norm_in_float32()  # as in a training with --amp
    with torch.autocast('cpu', dtype, enabled=dtype is not None):
        outputs = flatten(model(x))
    sum(out.float().square().mean() for out in outputs).backward()
    return [*outputs, *(p.grad for p in model.parameters() if p.grad is not None)]


def assert_same(one: list[torch.Tensor], two: list[torch.Tensor]) -> None:
    assert len(one) == len(two) and all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize('dtype', [None, torch.bfloat16], ids=['float32', 'bfloat16'])
@pytest.mark.parametrize('options', OPTIONS, ids=str)
@pytest.mark.parametrize('name', PARENTS)
def test_a_step_is_the_same_bit_by_bit(name, options, dtype):
    plain, light = (build_scalenet(name, with_cp=with_cp, **options) for with_cp in (False, 'light'))
    light.load_state_dict(randomise(plain).state_dict())
    assert_same(step(plain, image(), dtype), step(light, image(), dtype))


@pytest.mark.parametrize('dtype', [None, torch.bfloat16], ids=['float32', 'bfloat16'])
@pytest.mark.parametrize('name', FAMILIES)
def test_every_family(name, dtype):
    steps = []
    for with_cp in (False, 'light'):
        torch.manual_seed(0)
        model = mmscalenet.expand(build_family(name), gate=0.5, with_cp=with_cp)
        steps.append(step(model, family_image(name), dtype))
    assert_same(*steps)


class InPlace(torch.nn.Module):
    """A block whose activation changes what its norm gave, and which adds to its own input."""

    def __init__(self, adds: bool) -> None:
        super().__init__()
        self.norm, self.relu = torch.nn.LayerNorm(8), torch.nn.ReLU(inplace=True)
        self.linear, self.adds = torch.nn.Linear(8, 8), adds

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x * 1
        out = self.linear(self.relu(self.norm(x)))
        return x.add_(out) if self.adds else x + out


def in_place_gradients(adds: bool, light: bool, dtype: torch.dtype) -> list[torch.Tensor]:
    torch.manual_seed(0)
    block, x = InPlace(adds), torch.randn(4, 8).to(dtype).requires_grad_()
    with torch.autocast('cpu', torch.bfloat16, enabled=dtype is torch.bfloat16), \
            cheap_recomputed(block) if light else nullcontext():
        out = block(x)
    out.float().square().sum().backward()
    return [x.grad, *(p.grad for p in block.parameters())]


def test_what_an_activation_changes_in_place():
    assert_same(*(in_place_gradients(False, light, torch.float32) for light in (False, True)))


def test_an_input_that_is_changed_in_place_is_refused():
    layer_norm_in_float32()
    with pytest.raises(RuntimeError, match='changed in place since. Take with_cp=True or False'):
        in_place_gradients(True, True, torch.bfloat16)


def test_a_norm_that_reads_its_input_transposed():
    """ConvNeXt's, with maps as wide and as high as they have channels, so that shapes tell nothing."""
    layer_norm_in_float32()
    steps = []
    for light in (False, True):
        torch.manual_seed(0)
        norm, x = LN2d(8), torch.randn(2, 8, 8, 8).bfloat16().requires_grad_()
        with torch.autocast('cpu', torch.bfloat16), cheap_recomputed(norm) if light else nullcontext():
            out = norm(x)
        (out.float() * torch.arange(8)).square().sum().backward()
        steps.append([x.grad, *(p.grad for p in norm.parameters())])
    assert_same(*steps)


def kept(model: torch.nn.Module, dtype: torch.dtype | None) -> int:
    """Bytes that a forward pass leaves allocated, by torch's profiler."""
    x = torch.rand(2, 3, 224, 224)

    def forward() -> list[torch.Tensor]:
        with torch.autocast('cpu', dtype, enabled=dtype is not None):
            return flatten(model(x))

    model.train()
    forward()
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        outputs = forward()
    assert outputs[0].requires_grad
    return sum(event.self_cpu_memory_usage for event in profiler.key_averages())


DEIT = ScaleNetDeiT, dict(base='mmpretrain.VisionTransformer', arch='deit-small', img_size=224, patch_size=16)
SWIN = ScaleNetSwin, dict(base='mmdet.SwinTransformer')


@pytest.mark.parametrize('model, dtype, share', [
    (DEIT, None, 0.70), pytest.param(SWIN, None, 0.70, marks=pytest.mark.skipif(
        digit_version(torch.__version__) < digit_version('2.2'), reason='.7002 of it there')),
    # slow where a processor does not multiply in it
    pytest.param(DEIT, torch.bfloat16, 0.65, marks=pytest.mark.slow),
    pytest.param(SWIN, torch.bfloat16, 0.65, marks=pytest.mark.slow)
], ids=['deit-float32', 'swin-float32', 'deit-bfloat16', 'swin-bfloat16'])
def test_keeps_a_part_of_what_the_twin_keeps(model, dtype, share):
    """The unshared net of the same depth, which has no adapters; DeiT-S and Swin-T, scale 2."""
    layer_norm_in_float32()
    cls, arguments = model
    light = kept(cls(scale=2, with_cp='light', **arguments), dtype)
    assert light < share * kept(cls(scale=2, share=False, adapter=None, **arguments), dtype)


@pytest.mark.parametrize('name', ['mmpretrain-vit', 'mmdet-swin'])
def test_no_matrix_product_runs_twice(name):
    counts = []
    for with_cp in (False, 'light', True):
        with FlopCounterMode(display=False) as counter:
            step(build_scalenet(name, with_cp=with_cp), image())
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] < counts[2]


@pytest.mark.skipif(digit_version(torch.__version__) < digit_version('2.2'),
                    reason='its compiler refuses a loop over a module with an __iter__ of its own')
@pytest.mark.parametrize('name', ['mmpretrain-vit', pytest.param('mmdet-swin', marks=pytest.mark.slow)])
def test_compiled_it_is_one_graph(name, fresh_compiler):
    plain, light = (build_scalenet(name, with_cp=with_cp, drop_path_rate=0.) for with_cp in (False, 'light'))
    light.load_state_dict(randomise(plain).state_dict())
    one, two = step(plain, image()), step(torch.compile(light, backend='aot_eager', fullgraph=True), image())
    for a, b in zip(one, two, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_evaluation_keeps_nothing():
    model = build_scalenet('mmpretrain-vit', with_cp='light').eval()
    with torch.no_grad():
        expected = flatten(model(image()))
    assert not any(out.requires_grad for out in expected)
