"""Ours against the attention of all three libraries, with the same weights."""
import copy
from functools import partial

import pytest
import torch
from functorch.compile import aot_module_simplified, make_boxed_func
from mmdet.models.backbones.swin import ShiftWindowMSA as MMDetMSA
from mmengine.utils import digit_version
from mmpretrain.models.utils.attention import ShiftWindowMSA as MMPretrainMSA
from mmseg.models.backbones.swin import ShiftWindowMSA as MMSegMSA
from parents import build_parent, build_scalenet, flatten, image, randomise
from torch._subclasses.fake_tensor import FakeTensorMode

from mmscalenet.models.layers import WindowAttention, use_sdpa
from mmscalenet.models.layers.windows import edge_masks, window_kinds, window_order

LIBRARIES = {'mmpretrain': (MMPretrainMSA, dict(pad_small_map=True)), 'mmdet': (MMDetMSA, {}), 'mmseg': (MMSegMSA, {})}
every_library = pytest.mark.parametrize('library', LIBRARIES)


def pair(library, shift, window=4, **kwargs):
    cls, extra = LIBRARIES[library]
    parent = randomise(cls(8, 2, window, shift_size=shift, **extra, **kwargs))
    return parent, WindowAttention(copy.deepcopy(parent))


@every_library
@pytest.mark.parametrize('shift', [0, 2])
@pytest.mark.parametrize('hw', [(8, 8), (4, 4), (9, 14), (3, 5), (12, 4), (1, 1)])
def test_forward_and_gradients_equal_the_parents(library, shift, hw):
    parent, ours = pair(library, shift)
    x = torch.randn(3, hw[0] * hw[1], 8)
    results = []
    for module in (parent, ours):
        query = x.clone().requires_grad_()
        out = module(query, hw)
        out.square().sum().backward()
        results.append([out, query.grad, *(p.grad for p in module.parameters())])
        with torch.no_grad():  # inference takes the other way through ours
            results[-1].append(module(x, hw))
    assert len(results[0]) == len(results[1])
    for expected, actual in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


@every_library
def test_frozen_bias_in_training_and_attention_dropout(library):
    parent, ours = pair(library, 2)
    for module in (parent, ours):
        module.w_msa.relative_position_bias_table.requires_grad_(False)
    x = torch.randn(2, 64, 8)
    torch.testing.assert_close(ours(x, (8, 8)), parent(x, (8, 8)), rtol=1e-5, atol=1e-5)
    ours.w_msa.attn_drop.p = 0.5
    assert not torch.equal(ours(x, (8, 8)), ours(x, (8, 8)))
    ours.eval()
    torch.testing.assert_close(ours(x, (8, 8)), parent.eval()(x, (8, 8)), rtol=1e-5, atol=1e-5)


@every_library
@pytest.mark.parametrize('kind', ['attn_drop', 'proj_drop', 'dropout_layer'])
def test_every_dropout_of_the_parent_in_training(library, kind):
    """With a bias that is trained, which takes another way on a CPU than a frozen one."""
    if kind == 'dropout_layer':
        given = dict(dropout_layer=dict(type='Dropout', drop_prob=0.5))
    else:
        given = {kind if library == 'mmpretrain' else f'{kind}_rate': 0.5}
    parent, ours = pair(library, 2, **given)
    x, outputs = torch.randn(2, 63, 8), []
    for module in (parent, ours):
        torch.manual_seed(0)
        outputs.append(module.train()(x, (9, 7)))
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-5, atol=1e-5)
    assert (outputs[1] - ours.eval()(x, (9, 7))).abs().max() > 0.1


@every_library
def test_second_derivatives_and_functional_gradients(library):
    results = []
    for module in pair(library, 2):
        module, x = module.double(), torch.ones(1, 35, 8, dtype=torch.double).cumsum(1).sin().requires_grad_()
        grad, = torch.autograd.grad(module(x, (5, 7)).square().sum(), x, create_graph=True)
        grad.square().sum().backward()
        results.append([grad, x.grad, *(p.grad for p in module.parameters())])

    def loss(parameters: dict) -> torch.Tensor:
        return torch.func.functional_call(module, parameters, (x, (5, 7))).square().sum()

    parameters = dict(module.named_parameters())
    expected = torch.autograd.grad(loss(parameters), parameters.values())
    results[0] += expected
    results[1] += torch.func.grad(loss)(parameters).values()
    for expected, actual in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected)


@every_library
@pytest.mark.parametrize('shift', [0, 2])
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize('grad', [False, True])
def test_autocast_stays_low_precision_and_close(library, shift, dtype, grad):
    if dtype is torch.float16 and digit_version(torch.__version__) < digit_version('2.4'):
        pytest.skip('this torch has no float16 autocast on a CPU')
    parent, ours = pair(library, shift)
    x = torch.randn(2, 64, 8)
    expected = parent(x, (8, 8)).detach()
    with torch.autocast('cpu', dtype), torch.set_grad_enabled(grad):
        out = ours(x, (8, 8))
    assert out.dtype is dtype
    torch.testing.assert_close(out.float().detach(), expected, rtol=0.02, atol=0.02)  # without its bias: off by 0.13
    if grad:
        out.float().sum().backward()
        assert all(torch.isfinite(p.grad).all() for p in ours.parameters())


def test_masks_are_those_of_the_parent_and_the_cache_is_bounded():
    expected = MMPretrainMSA.get_attn_mask((12, 20), window_size=4, shift_size=2)
    kinds = window_kinds(3, 5, torch.device('cpu'))
    assert torch.equal(edge_masks(4, 2, torch.device('cpu'), torch.float32)[kinds], expected)
    for rows in range(200):
        window_kinds(rows + 1, 7, torch.device('cpu'))
    assert window_kinds.cache_info().currsize <= window_kinds.cache_info().maxsize < 200
    assert edge_masks.cache_info().maxsize < 200


def test_a_compiler_leaves_none_of_its_tensors_behind():
    """Exporters look on with tensors that hold no data."""
    with FakeTensorMode():
        fake = window_order(11, 13, 4, 2, torch.device('cpu'))
    order, padding, places = window_order(11, 13, 4, 2, torch.device('cpu'))
    assert [part.shape for part in fake] == [order.shape, padding.shape, places.shape]
    tokens = torch.arange(11 * 13)
    assert torch.equal(tokens[order][places], tokens)
    assert sorted([*places.tolist(), *padding.tolist()]) == list(range(12 * 16))


@pytest.mark.skipif(digit_version(torch.__version__) < digit_version('2.2'),
                    reason='its compiler refuses a loop over a module with an __iter__ of its own')
def test_a_compiled_model_has_the_same_gradients(fresh_compiler):
    """In maps that need padding; a compiler loses those of functions that change a tensor in place."""
    model = build_scalenet('mmdet-swin', depths=(2, 2), num_heads=(1, 2), strides=(4, 2), out_indices=(0, 1),
                           drop_path_rate=0.)
    x = torch.randn(1, 3, 50, 93)
    grads = []
    for run in model, torch.compile(model, backend='eager'):
        model.zero_grad()
        sum(out.square().sum() for out in run(x)).backward()
        grads.append([parameter.grad.clone() for parameter in model.parameters()])
    for left, right in zip(*grads, strict=True):
        torch.testing.assert_close(left, right)


@pytest.mark.skipif(digit_version(torch.__version__) < digit_version('2.2'),
                    reason='its compiler refuses a loop over a module with an __iter__ of its own')
def test_a_compiled_graph_sorts_no_table(fresh_compiler):
    """It makes the tables of windows anew at every position."""
    model = build_scalenet('mmdet-swin', depths=(2, 2), num_heads=(1, 2), strides=(4, 2), out_indices=(0, 1))
    found = []

    def look(graph, inputs):
        found.extend(str(node.target) for node in graph.graph.nodes)
        return make_boxed_func(graph.forward)

    compiled = torch.compile(model.eval(), backend=partial(aot_module_simplified, fw_compiler=look))
    compiled(torch.randn(1, 3, 50, 93))
    assert any('scatter' in name for name in found) and not any('sort' in name for name in found)


def test_masks_made_in_inference_mode_serve_training():
    _, ours = pair('mmdet', 1, window=3)
    x = torch.randn(1, 36, 8)
    with torch.inference_mode():
        ours(x, (6, 6))
    ours(x, (6, 6)).sum().backward()


@pytest.mark.parametrize('hw, message', [((3, 8), 'smaller than the window'), ((5, 5), '10 tokens.*means 25')])
def test_classification_refuses_a_map_smaller_than_the_window(hw, message):
    ours = WindowAttention(MMPretrainMSA(8, 2, 4, shift_size=2, pad_small_map=False))
    with pytest.raises(ValueError, match=message):
        ours(torch.randn(1, 10 if hw == (5, 5) else hw[0] * hw[1], 8), hw)


@pytest.mark.parametrize('hw', [(4, 4), (8, 8), (4, 8)])
def test_classification_does_not_shift_a_map_of_one_window(hw):
    parent = randomise(MMPretrainMSA(8, 2, 4, shift_size=2, pad_small_map=False))
    x = torch.randn(2, hw[0] * hw[1], 8)
    ours = WindowAttention(copy.deepcopy(parent))
    torch.testing.assert_close(ours(x, hw), parent(x, hw), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('name', ['mmpretrain-swin', 'mmdet-swin', 'mmseg-swin'])
@pytest.mark.parametrize('size', [(64, 64), (50, 93)])
def test_whole_backbone_with_ours_equals_the_parent(name, size):
    parent = build_parent(name)
    ours = use_sdpa(copy.deepcopy(parent))
    assert list(ours.state_dict()) == list(parent.state_dict())
    parent.eval()
    ours.eval()
    assert any(isinstance(m, WindowAttention) for m in ours.modules())
    for a, b in zip(flatten(ours(image(size))), flatten(parent(image(size))), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('name', ['mmpretrain-swin', 'mmdet-swin', 'mmseg-swin'])
def test_modes_are_those_of_the_parent(name):
    """Also where a part of the attention has a mode of its own."""
    for training in (True, False):
        parent = build_parent(name)
        parent.train(training)
        parent.stages[0].blocks[1].attn.w_msa.train(not training)
        ours = use_sdpa(copy.deepcopy(parent))
        modes = {key: module.training for key, module in ours.named_modules()}
        for key, module in parent.named_modules():
            assert modes.pop(key) == module.training, key
        assert set(modes.values()) == {training}  # of what only ours has


def test_another_kind_of_attention_is_left_alone():
    from mmpretrain.models import SwinTransformerV2
    v2 = SwinTransformerV2(arch=dict(embed_dims=8, depths=[2], num_heads=[2], extra_norm_every_n_blocks=0),
                           img_size=32, window_size=4, out_indices=(0, ))
    assert not any(isinstance(m, WindowAttention) for m in use_sdpa(v2).modules())
