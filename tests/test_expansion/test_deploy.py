"""Unrolled for deployment: the same outputs, and nothing of the positions left to run."""
import copy

import pytest
import torch
from parents import PARENTS, build_scalenet, flatten, image, randomise
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

import mmscalenet
from mmscalenet.expansion import position_lists
from mmscalenet.expansion.adapters import Adapter, LoRA, ParallelAdapter

every_parent = pytest.mark.parametrize('name', PARENTS)
OPTIONS = {
    'default': dict(),
    'three times': dict(scale=3, layer_map='interleaved'),
    'gate and norms': dict(gate=0.5, unshare='norms'),
    'LoRA': dict(adapter=dict(type='LoRA'), gate=0.5),
    'no adapter': dict(adapter=None),
    'stacking': dict(share=False),
    'sub-steps': dict(layer_map='interleaved', scale=3, gate='1/N'),
    'scaled adapter': dict(adapter=dict(type='ParallelAdapter', scale=0.1, dropout=0.1)),
}


def close(actual, expected) -> None:
    for one, other in zip(flatten(actual), flatten(expected), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@every_parent
@pytest.mark.parametrize('options', OPTIONS.values(), ids=OPTIONS)
def test_the_outputs_stay(name, options):
    model = randomise(build_scalenet(name, **options)).eval()
    with torch.no_grad():
        expected = model(image())
        assert model.switch_to_deploy() is model
        close(model(image()), expected)
    for positions in position_lists(model).values():
        assert len(positions.blocks) == len(positions)
        assert not [*positions.positions.parameters(), *positions.positions.buffers()]
        assert len({id(p) for block in positions.blocks for p in block.parameters()}) == sum(
            1 for block in positions.blocks for _ in block.parameters())
    assert not any(adapter in model.layer_table() for adapter in ('ParallelAdapter', 'LoRA'))
    close(copy.deepcopy(model)(image()), expected)


@every_parent
def test_the_cores_input_stays_where_it_is_added(name):
    model = randomise(build_scalenet(name, layer_map='middle_cycle', inject=True, gate='1/N')).eval()
    expected = model(image())
    close(model.switch_to_deploy()(image()), expected)
    left = [key for key, _ in model.named_parameters() if '.positions.' in key]
    assert left and all(key.endswith('.inject') for key in left)


def test_windows_of_detection_stay():
    model = randomise(mmscalenet.ScaleNetDeiT(
        arch=dict(embed_dims=24, num_layers=4, num_heads=2, feedforward_channels=48), img_size=64, patch_size=8,
        window_size=3, global_positions=2, with_cls_token=False, out_type='featmap')).eval()
    expected = model(image())
    close(model.switch_to_deploy()(image()), expected)


def test_layer_scale_and_another_activation():
    arch = dict(embed_dims=24, num_layers=4, num_heads=2, feedforward_channels=48)
    for act, folded in (('GELU', True), ('ReLU', False)):
        model = randomise(mmscalenet.ScaleNetDeiT(
            base='mmpretrain.VisionTransformer', arch=arch, img_size=32, patch_size=8, layer_scale_init_value=0.1,
            adapter=dict(type='ParallelAdapter', act_cfg=dict(type=act)))).eval()
        expected = model(image())
        close(model.switch_to_deploy()(image()), expected)
        assert all((position.adapter is None) == folded for position in model.layers.positions)


class Squared(Adapter):
    """One that nothing can be folded of."""

    def __init__(self, block, embed_dims):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(embed_dims))

    def forward(self, h):
        return self.weight * h.square()

    def reset_parameters(self):
        torch.nn.init.zeros_(self.weight)


class Tenth(ParallelAdapter):
    """One that is no wider FFN any more."""

    def forward(self, h):
        return 0.1 * super().forward(h)


class LoRAAndMore(LoRA):
    """One with weights and an output."""

    def forward(self, h):
        return 0.1 * h


@pytest.mark.parametrize('adapter', [Squared, Tenth, LoRAAndMore])
@pytest.mark.parametrize('name', ['mmdet-swin', 'mmseg-vit'])
def test_an_adapter_that_cannot_be_folded_stays(adapter, name):
    mmscalenet.ADAPTERS.register_module(module=adapter)
    try:
        model = randomise(build_scalenet(name, adapter=dict(type=adapter.__name__), gate=0.5)).eval()
    finally:
        mmscalenet.ADAPTERS.module_dict.pop(adapter.__name__)
    expected = model(image())
    for _ in range(2):  # the second time there is nothing left to do
        close(model.switch_to_deploy()(image()), expected)
    assert all(p.adapter is not None for positions in position_lists(model).values() for p in positions.positions)


def test_a_learnt_activation_is_not_folded():
    prelu = dict(type='PReLU')
    model = randomise(build_scalenet('mmseg-vit', act_cfg=prelu, adapter=dict(type='ParallelAdapter', act_cfg=prelu)))
    expected = model.eval()(image())
    close(model.switch_to_deploy()(image()), expected)


VIT = dict(arch=dict(embed_dims=24, num_layers=3, num_heads=2, feedforward_channels=96), img_size=32, patch_size=8)


@pytest.mark.parametrize('adapter', [None, dict(type='ParallelAdapter')], ids=str)
@pytest.mark.parametrize('target', ['.*qkv', '.*proj', '.*ffn.*'])
def test_maps_that_a_wrapper_has_taken_stay(target, adapter):
    """mmpretrain's LoRA, whose last linear map is not that of the branch."""
    from mmpretrain.models import LoRAModel
    model = LoRAModel(module=dict(type='mmscalenet.ScaleNetDeiT', base='mmpretrain.VisionTransformer', gate=0.5,
                                  adapter=adapter, **VIT), alpha=4, rank=2, targets=[dict(type=target)])
    backbone = randomise(model.eval()).module
    expected = backbone(image())
    close(backbone.switch_to_deploy()(image()), expected)


@pytest.mark.parametrize('adapter', [None, dict(type='ParallelAdapter')], ids=str)
@pytest.mark.parametrize('kind', [weight_norm, spectral_norm])
def test_parametrized_maps_stay(kind, adapter):
    from mmpretrain.models import VisionTransformer
    base = randomise(VisionTransformer(**VIT))
    for block in base.layers:
        kind(block.attn.proj)
        kind(block.ffn.layers[1])
    model = mmscalenet.expand(base, scale=2, gate=0.5, adapter=adapter)
    model.eval()  # returns None
    expected = model(image())
    close(model.switch_to_deploy()(image()), expected)


def test_what_was_frozen_stays_frozen():
    model = build_scalenet('mmpretrain-vit', freeze='base').switch_to_deploy()
    assert not [name for name, p in model.named_parameters() if p.requires_grad]


@every_parent
@pytest.mark.filterwarnings('ignore::torch.jit.TracerWarning')
@pytest.mark.parametrize('deployed', [False, True])
def test_a_saved_trace_gives_the_same(name, deployed, tmp_path):
    """The way to TorchScript, and of exporters that build on its traces."""
    model = randomise(build_scalenet(name)).eval()
    expected = model(image())
    if deployed:
        model.switch_to_deploy()
    torch.jit.save(torch.jit.trace(model, image(), check_trace=False), tmp_path / 'trace.pt')
    close(torch.jit.load(tmp_path / 'trace.pt')(image()), expected)
