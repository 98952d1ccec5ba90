"""One constructor for the models of all three libraries."""
import copy
import re

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope, init_default_scope
from parents import DEIT_ARCH, PARENTS, SWIN_DIALECT, build_scalenet

from mmscalenet.engine.optimizers import LayerDecayOptimWrapperConstructor, layer_decay


def build(model, **paramwise):
    return build_optim_wrapper(model, ConfigDict(
        type='OptimWrapper', constructor='mmscalenet.LayerDecayOptimWrapperConstructor',
        optimizer=dict(type='AdamW', lr=1., weight_decay=0.1), paramwise_cfg=paramwise))


def group_of(wrapper, parameter):
    found = [g for g in wrapper.optimizer.param_groups if any(p is parameter for p in g['params'])]
    assert len(found) == 1
    return found[0]


class Holder(torch.nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.head = torch.nn.Linear(4, 2)


@pytest.mark.parametrize('name', PARENTS)
def test_every_parameter_is_in_exactly_one_group(name):
    model = Holder(build_scalenet(name, gate=0, unshare='norms'))
    wrapper = build(model, layer_decay_rate=0.5, adapter_lr_mult=2, gate_lr_mult=10)
    for parameter in model.parameters():
        group_of(wrapper, parameter)
    assert sum(len(g['params']) for g in wrapper.optimizer.param_groups) == len(list(model.parameters()))


def test_rates_by_hand():
    model = Holder(build_scalenet('mmpretrain-vit', gate=0, inject=True))
    wrapper = build(model, layer_decay_rate=0.5, adapter_lr_mult=2, gate_lr_mult=10,
                    custom_keys={'head.bias': dict(lr_mult=3.), 'head': dict(decay_mult=0.5)})
    layers = model.backbone.layers
    expected = {  # 4 blocks: depths 0 to 5
        model.backbone.pos_embed: (0.5**5, 0),
        model.backbone.patch_embed.projection.weight: (0.5**5, 0.1),
        layers.blocks[0].attn.qkv.weight: (0.5**4, 0.1),  # also runs at position 4: still block 0
        layers.blocks[3].ln1.weight: (0.5, 0),
        layers.positions[0].adapter.up.weight: (2 * 0.5**4, 0.1),
        layers.positions[4].adapter.up.weight: (2 * 0.5**2, 0.1),
        layers.positions[7].gate: (10 * 0.5, 0),
        layers.positions[4].inject: (10 * 0.5**2, 0),
        model.backbone.ln1.weight: (1, 0),
        model.head.weight: (1, 0.05),
        model.head.bias: (3, 0),
    }
    for parameter, (lr, decay) in expected.items():
        group = group_of(wrapper, parameter)
        assert group['lr'] == pytest.approx(lr) and group['weight_decay'] == pytest.approx(decay)


def test_the_log_has_a_table_of_the_groups(monkeypatch):
    """By hand, for 24 channels and 48 in the FFN: 4 blocks at 8 positions of which the last 4 were added."""
    lines = []
    monkeypatch.setattr(layer_decay, 'print_log', lambda text, logger: lines.extend(text.splitlines()))
    model = Holder(build_scalenet('mmpretrain-vit', gate=0))
    build(model, layer_decay_rate=0.5, adapter_lr_mult=2, gate_lr_mult=10, custom_keys={'head': dict(lr_mult=3.)})
    weights, norms = 24 * 72 + 24 * 24 + 2 * 24 * 48, 4 * 24 + 72 + 24 + 48 + 24
    expected = [
        [0, 'norms, biases, tokens', 3, 24 + 17 * 24 + 24, 0.5**5, 0],  # class token, positions, bias of the patches
        [0, 'weights', 1, 3 * 8 * 8 * 24, 0.5**5, 0.1],
    ]
    for depth in (1, 2, 3, 4):
        rate = 0.5**(5 - depth)
        expected += [
            [depth, 'adapters', 4, 2 * 2 * 24 * 10, 2 * rate, 0.1],  # two positions, each down to 10 channels and up
            *([[depth, 'gates', 2, 2 * 2, 10 * rate, 0]] if depth > 2 else []),
            [depth, 'norms, biases, tokens', 8, norms, rate, 0],
            [depth, 'weights', 4, weights, rate, 0.1],
        ]
    expected += [[5, 'head', 1, 2, 3, 0], [5, 'head', 1, 4 * 2, 3, 0.1], [5, 'norms, biases, tokens', 2, 2 * 24, 1, 0]]
    assert lines[0] == 'parameter groups:'
    head, *rows = [re.split('  +', line.strip()) for line in lines[1:]]
    assert head == ['depth', 'what', 'tensors', 'parameters', 'lr', 'weight decay']
    assert rows == [[str(depth), what, str(tensors), f'{count:,}', f'{lr:.3g}', f'{decay:g}']
                    for depth, what, tensors, count, lr, decay in expected]
    assert sum(row[3] for row in expected) == sum(p.numel() for p in model.parameters())


def test_position_bias_tables_do_not_decay_and_frozen_parameters_are_left_out():
    model = Holder(build_scalenet('mmdet-swin', frozen_stages=1))
    model.backbone.train()
    wrapper = build(model, layer_decay_rate=0.9)
    block = model.backbone.stages[3].blocks.blocks[1]
    assert group_of(wrapper, block.attn.w_msa.relative_position_bias_table)['weight_decay'] == 0
    assert group_of(wrapper, block.attn.w_msa.qkv.weight)['weight_decay'] == 0.1
    trained = [p for p in model.parameters() if p.requires_grad]
    assert len(trained) < len(list(model.parameters()))
    assert sum(len(g['params']) for g in wrapper.optimizer.param_groups) == len(trained)


@pytest.mark.parametrize('scope, config', [
    ('mmpretrain', dict(type='ImageClassifier', backbone=dict(type='mmscalenet.ScaleNetDeiT', arch=DEIT_ARCH),
                        head=dict(type='VisionTransformerClsHead', num_classes=3, in_channels=24))),
    ('mmdet', dict(type='RetinaNet', backbone=dict(type='mmscalenet.ScaleNetSwin', **SWIN_DIALECT),
                   neck=dict(type='FPN', in_channels=[8, 16, 32, 64], out_channels=8, num_outs=5),
                   bbox_head=dict(type='RetinaHead', num_classes=2, in_channels=8, feat_channels=8, stacked_convs=1,
                                  anchor_generator=dict(type='AnchorGenerator', octave_base_scale=4,
                                                        scales_per_octave=3, ratios=[1.0],
                                                        strides=[8, 16, 32, 64, 128])))),
    ('mmseg', dict(type='EncoderDecoder', backbone=dict(type='mmscalenet.ScaleNetSwin', **SWIN_DIALECT),
                   decode_head=dict(type='FCNHead', in_channels=64, in_index=3, channels=8, num_convs=1,
                                    num_classes=2), test_cfg=dict(mode='whole'))),
    ('mmdet', dict(type='RetinaNet',
                   backbone=dict(type='mmscalenet.ScaleNetDeiT', arch=DEIT_ARCH, window_size=3, with_cls_token=False,
                                 out_type='featmap'),
                   neck=dict(type='mmscalenet.SimpleFeaturePyramid', in_channels=[24], out_channels=8),
                   bbox_head=dict(type='RetinaHead', num_classes=2, in_channels=8, feat_channels=8, stacked_convs=1,
                                  anchor_generator=dict(type='AnchorGenerator', octave_base_scale=4,
                                                        scales_per_octave=3, ratios=[1.0],
                                                        strides=[4, 8, 16, 32, 64])))),
    ('mmseg', dict(type='EncoderDecoder',
                   backbone=dict(type='mmscalenet.ScaleNetDeiT', embed_dims=24, num_layers=4, num_heads=2, mlp_ratio=2,
                                 img_size=32, out_indices=(1, 3), final_norm=True),
                   neck=dict(type='MultiLevelNeck', in_channels=[24] * 2, out_channels=8, scales=[2, 1]),
                   decode_head=dict(type='FCNHead', in_channels=8, in_index=1, channels=8, num_convs=1,
                                    num_classes=2), test_cfg=dict(mode='whole'))),
])
def test_models_of_all_three_libraries(scope, config):
    init_default_scope(scope)
    with DefaultScope.overwrite_default_scope(scope):
        model = MODELS.build(copy.deepcopy(config))
    wrapper = build(model, layer_decay_rate=0.5)
    rates = {round(g['lr'], 9) for g in wrapper.optimizer.param_groups}
    assert 1. in rates and min(rates) < 0.1
    head = next(p for n, p in model.named_parameters() if not n.startswith('backbone'))
    assert group_of(wrapper, head)['lr'] == 1.
    assert group_of(wrapper, model.backbone.patch_embed.projection.weight)['lr'] == pytest.approx(min(rates))


def test_rate_1_trains_like_the_default_constructor():
    ours, theirs = (Holder(build_scalenet('mmpretrain-vit')) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    keys = {k: dict(decay_mult=0.) for k in ('pos_embed', 'cls_token')}
    wrappers = [build(ours), build_optim_wrapper(theirs, ConfigDict(
        type='OptimWrapper', optimizer=dict(type='AdamW', lr=1., weight_decay=0.1),
        paramwise_cfg=dict(flat_decay_mult=0., norm_decay_mult=0., bias_decay_mult=0., custom_keys=keys)))]
    x = torch.randn(2, 3, 32, 32)
    for model, wrapper in zip((ours, theirs), wrappers, strict=True):
        wrapper.update_params(model.head(model.backbone(x)[0][:, :4]).square().sum())
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize('paramwise, error, message', [
    (dict(layer_decay=0.5), ValueError, 'layer_decay=0.5.*layer_decay_rate'),
    (dict(layer_decay_rate=0), ValueError, 'layer_decay_rate=0 is not allowed'),
    (dict(gate_lr_mult=-1), ValueError, 'gate_lr_mult=-1'),
])
def test_wrong_settings(paramwise, error, message):
    with pytest.raises(error, match=message):
        build(Holder(build_scalenet('mmpretrain-vit')), **paramwise)


def test_a_model_without_depths_is_refused():
    with pytest.raises(TypeError, match='Linear has `get_layer_depth`'):
        LayerDecayOptimWrapperConstructor(
            dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=1.)))(torch.nn.Linear(2, 2))


def test_two_backbones_have_depths_of_their_own():
    model = torch.nn.ModuleDict({name: Holder(build_scalenet('mmpretrain-vit')) for name in ('student', 'teacher')})
    wrapper = build(model, layer_decay_rate=0.5)
    for part in model.values():
        assert group_of(wrapper, part.backbone.patch_embed.projection.weight)['lr'] == pytest.approx(0.5**5)
        assert group_of(wrapper, part.head.weight)['lr'] == 1


@pytest.mark.parametrize('custom', [dict(lr_mul=10.), 10, dict(lr_mult=-1.), dict(decay_mult='0')])
def test_a_custom_key_that_says_nothing_is_refused(custom):
    with pytest.raises(ValueError, match="custom_keys has 'gate'.*give dict\\(lr_mult=, decay_mult=\\)"):
        build(Holder(build_scalenet('mmpretrain-vit', gate=0)), custom_keys=dict(gate=custom))
    with pytest.raises(ValueError, match="custom_keys=\\['gate'\\] is not allowed; give a dict"):
        build(Holder(build_scalenet('mmpretrain-vit')), custom_keys=['gate'])
