"""Register tokens of ScaleNetDeiT: arXiv 2309.16588."""
import copy
import pickle

import pytest
import torch
from mmengine.utils import digit_version
from parents import DEIT_ARCH, image
from torch import nn

from mmscalenet import ScaleNetDeiT
from mmscalenet.engine.optimizers import LayerDecayOptimWrapperConstructor


def build(**kwargs) -> ScaleNetDeiT:
    torch.manual_seed(0)
    return ScaleNetDeiT(**dict(arch=copy.deepcopy(DEIT_ARCH), img_size=64, patch_size=8, num_register_tokens=3)
                        | kwargs).eval()


def by_hand(model: ScaleNetDeiT, x: torch.Tensor) -> torch.Tensor:
    """All tokens, normed, without any of the parent's code for tokens."""
    tokens = model.patch_embed(x)[0] if model.cls_token is None else torch.cat(
        [getattr(model, name).expand(len(x), -1, -1) for name in ('cls_token', 'dist_token') if hasattr(model, name)]
        + [model.patch_embed(x)[0]], dim=1)
    tokens = tokens + model.pos_embed
    # attention does not know an order: here they stand at the end
    tokens = torch.cat((tokens, model.register_tokens.expand(len(x), -1, -1)), dim=1)
    for position in model.layers:
        tokens = position(tokens)
    return model.ln1(tokens)


def open_all(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:  # norms stay as they are, or little would come through
                parameter.normal_(0, .2)
    return model


@pytest.mark.parametrize('options', [
    dict(), dict(with_cls_token=False, out_type='featmap'), dict(base='mmpretrain.DistilledVisionTransformer')
], ids=['class token', 'no class token', 'distilled'])
@torch.no_grad()
def test_they_take_part_and_are_in_no_output(options):
    x = image((64, 64))
    for out_type in ('raw', 'featmap', 'avg_featmap', 'cls_token'):
        if out_type == 'cls_token' and not options.get('with_cls_token', True):
            continue
        model = open_all(build(**options | dict(out_type=out_type)))
        tokens = by_hand(model, x)[:, :-3]
        patches = tokens[:, -64:]
        expected = (tokens if out_type == 'raw' else tokens[:, 0] if out_type == 'cls_token' else
                    model.ln2(patches.mean(1)) if out_type == 'avg_featmap' else
                    patches.transpose(1, 2).unflatten(2, (8, 8)))
        out, = model(x)
        out = out[0] if isinstance(out, tuple) else out
        torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)

        model.register_tokens.zero_()
        other, = model(x)
        assert ((other[0] if isinstance(other, tuple) else other) - out).abs().max() > 1e-2


def test_without_them_nothing_changes():
    model = build(num_register_tokens=0)
    assert 'register_tokens' not in model.state_dict() and not model.drop_after_pos._forward_hooks


@torch.no_grad()
def test_any_size_a_copy_a_pickle_deploy_and_a_whole_graph():
    model = open_all(build(out_type='featmap', scale=2))
    x = image((40, 72))
    expected, = model(x)
    assert expected.shape[2:] == (5, 9)
    twin = copy.deepcopy(model)
    twin.register_tokens.zero_()  # its own
    assert model(x)[0].equal(expected) and not twin(x)[0].equal(expected)
    assert pickle.loads(pickle.dumps(model))(x)[0].equal(expected)
    if digit_version(torch.__version__) >= digit_version('2.2'):  # before, the compiler refuses the loop
        torch.testing.assert_close(torch.compile(model, backend='eager', fullgraph=True)(x)[0], expected)
    torch.testing.assert_close(copy.deepcopy(model).switch_to_deploy()(x)[0], expected, atol=1e-4, rtol=1e-4)


def test_they_are_of_the_stem():
    model = build()
    assert model.get_layer_depth('backbone.register_tokens', 'backbone.') == model.get_layer_depth('cls_token')
    assert model.get_layer_depth('layers.1.ln1.weight')[0] == 2
    assert not build(frozen_stages=1).register_tokens.requires_grad
    assert not build(freeze='base').register_tokens.requires_grad
    groups = LayerDecayOptimWrapperConstructor(
        dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1., weight_decay=.1)),
        dict(layer_decay_rate=.5))(model).param_groups
    group, = (group for group in groups if any(p is model.register_tokens for p in group['params']))
    assert group['weight_decay'] == 0 and any(p is model.cls_token for p in group['params'])


def test_they_are_trained():
    model = build(out_type='featmap').train()
    model(image((64, 64)))[0].square().mean().backward()
    assert model.register_tokens.grad.abs().sum() > 0


@pytest.mark.parametrize(('options', 'message'), [
    (dict(num_register_tokens=-1), 'num_register_tokens=-1 is not allowed; give a number from 0 on'),
    (dict(num_register_tokens=True), 'num_register_tokens=True is not allowed'),
    (dict(num_register_tokens=1.5), 'num_register_tokens=1.5 is not allowed'),
    (dict(window_size=4, with_cls_token=False, out_type='featmap'), 'window_size=4 needs num_register_tokens=0, not 3'),
    (dict(base='mmpretrain.DeiT3'), r"num_register_tokens=3 is not allowed with mmpretrain.DeiT3; give base='mmpretr"),
])
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_not_for_the_vit_of_mmseg():
    with pytest.raises(ValueError, match='num_register_tokens=4 is not allowed with mmseg.VisionTransformer'):
        ScaleNetDeiT(embed_dims=24, num_layers=2, num_heads=2, img_size=64, patch_size=8, num_register_tokens=4)
