"""``with_cp='light'``: norms and activations are made again for the backward pass, and nothing else changes."""
import gc

import pytest
import torch
from families import FAMILIES, build_family, family_image
from mmengine.utils import digit_version
from parents import PARENTS, build_scalenet, flatten, image, randomise
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

import mmscalenet
from mmscalenet import ScaleNetDeiT, ScaleNetSwin
from mmscalenet.engine.optimizers.cpu_amp import layer_norm_in_float32

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


@pytest.mark.parametrize('name', FAMILIES)
def test_every_family(name):
    steps = []
    for with_cp in (False, 'light'):
        torch.manual_seed(0)
        model = mmscalenet.expand(build_family(name), gate=0.5, with_cp=with_cp)
        steps.append(step(model, family_image(name)))
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
    (DEIT, None, 0.70), (SWIN, None, 0.70),
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
