"""ScaleNetDeiT and ScaleNetSwin as configs of the three libraries use them."""
import copy
import importlib
import types

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope
from parents import DEIT_ARCH, PARENTS, SWIN_DIALECT, build_parent, build_scalenet, copy_base, flatten, image, randomise

import mmscalenet
from mmscalenet import ScaleNetDeiT, ScaleNetSwin
from mmscalenet.expansion import position_lists
from mmscalenet.models.backbones import scalenet

every_parent = pytest.mark.parametrize('name', PARENTS)


@every_parent
@pytest.mark.parametrize('gate', [0, None])
def test_twin_of_every_parent(name, gate):
    """Same arguments, base weights by name: with gate 0, or scale 1, the outputs are the parent's."""
    parent = build_parent(name)
    parent.eval()
    options = dict(gate=0) if gate == 0 else dict(scale=1, adapter=None)
    ours = build_scalenet(name, **options).eval()
    assert isinstance(ours, PARENTS[name][0])
    copy_base(parent, ours)
    for a, b in zip(flatten(ours(image())), flatten(parent(image())), strict=True):
        if 'swin' in name:
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
        else:
            assert torch.equal(a, b)


@pytest.mark.parametrize('name', ['mmpretrain-swin', 'mmdet-swin', 'mmseg-swin'])
def test_swin_with_the_parents_attention_is_the_parent_bit_for_bit(name):
    parent = build_parent(name)
    parent.eval()
    ours = build_scalenet(name, scale=1, adapter=None, sdpa=False).eval()
    copy_base(parent, ours)
    assert all(torch.equal(a, b) for a, b in zip(flatten(ours(image())), flatten(parent(image())), strict=True))


@pytest.mark.parametrize('scope, cls, arguments, module', [
    ('mmpretrain', 'ScaleNetDeiT', dict(arch=DEIT_ARCH), 'mmpretrain.models.backbones.vision_transformer'),
    ('mmseg', 'ScaleNetDeiT', dict(embed_dims=24, num_layers=2, num_heads=2), 'mmseg.models.backbones.vit'),
    ('mmdet', 'ScaleNetDeiT', dict(arch=DEIT_ARCH), 'mmpretrain.models.backbones.vision_transformer'),
    ('mmpretrain', 'ScaleNetSwin', dict(arch='tiny'), 'mmpretrain.models.backbones.swin_transformer'),
    ('mmdet', 'ScaleNetSwin', SWIN_DIALECT, 'mmdet.models.backbones.swin'),
    ('mmseg', 'ScaleNetSwin', SWIN_DIALECT, 'mmseg.models.backbones.swin'),
    ('mmdet', 'ScaleNetSwin', dict(arch='tiny'), 'mmpretrain.models.backbones.swin_transformer'),
    (None, 'ScaleNetSwin', SWIN_DIALECT, 'mmdet.models.backbones.swin'),
])
def test_the_config_of_a_library_gets_that_librarys_parent(scope, cls, arguments, module):
    config = dict(type=f'mmscalenet.{cls}', **copy.deepcopy(arguments))
    if scope is None:
        backbone = MODELS.build(config)
    else:
        with DefaultScope.overwrite_default_scope(scope):
            backbone = MODELS.build(config)
    assert type(backbone)._parts[1].__module__ == module
    assert type(backbone)._parts[0] is getattr(mmscalenet, cls)


def test_the_class_of_a_backbone_has_its_parent():
    """DataParallel makes replicas by it."""
    backbone = build_scalenet('mmpretrain-distilled')
    assert type(type(backbone)(arch=DEIT_ARCH)) is type(backbone) is type(backbone.__new__(type(backbone)))


def test_a_subclass_that_freezes_the_blocks_by_itself():
    backbone = ScaleNetDeiT(base='mmpretrain.MoCoV3ViT', arch=DEIT_ARCH, img_size=32, patch_size=8, frozen_stages=2)
    backbone.train()
    trained = {name for name, parameter in backbone.named_parameters() if parameter.requires_grad}
    assert not {name for name in trained if name.startswith(('layers.0.', 'layers.1.', 'patch_embed.'))}
    assert {name.split('.')[1] for name in trained if name.startswith('layers.')} == {'2', '3', 'positions'}


@pytest.mark.parametrize('cls, arguments, error, message', [
    (ScaleNetSwin, dict(embed_dims=8, depths=(2, 2, 2, 2), layermap='cyclic'), TypeError,
     r"on mmdet.SwinTransformer does not take layermap='cyclic' \(did you mean layer_map\?\)"),
    (ScaleNetDeiT, dict(arch=DEIT_ARCH, frozen_stages=5), ValueError, 'frozen_stages=5 .* from -1 .none. to 4'),
    (ScaleNetDeiT, dict(arch=DEIT_ARCH, init_cfg='a.pth'), TypeError, "init_cfg='a.pth' is not allowed"),
    (ScaleNetDeiT, dict(arch=DEIT_ARCH, depths=3), TypeError, 'does not take depths=3 .did you mean depth.*arch'),
    (ScaleNetSwin, dict(arch='tiny', embed_dims=8), TypeError, 'does not take embed_dims=8'),
    (ScaleNetDeiT, dict(arch='deit-huge'), ValueError, "arch='deit-huge' is unknown; allowed.*deit-tiny"),
    (ScaleNetDeiT, dict(arch=DEIT_ARCH, out_indices=[4]), ValueError, '4 is not allowed; give integers from -4 to 3'),
    (ScaleNetDeiT, dict(arch=DEIT_ARCH, out_indices='3'), ValueError, "'3' is not allowed"),
    (ScaleNetSwin, dict(out_indices=(4, )), ValueError, 'out_indices=\\(4,\\): 4 is not allowed'),
    (ScaleNetDeiT, dict(arch=DEIT_ARCH, out_indices=[3, -1]), ValueError, 'names an output twice'),
    (ScaleNetDeiT, dict(arch=dict(embed_dims=24)), ValueError, 'arch=.*is not allowed; give a name.*deit-tiny'),
    (ScaleNetSwin, dict(arch=3), ValueError, 'arch=3 is not allowed'),
    (ScaleNetSwin, dict(arch='tiny', frozen_stages=4), ValueError, r'frozen_stages=4 is not allowed; .* to 3'),
    (ScaleNetSwin, dict(base='mmdet.SwinTransformer', frozen_stages=5), ValueError, 'frozen_stages=5 .* to 4'),
    (ScaleNetDeiT, dict(arch=DEIT_ARCH, drop_path_rate=1.5), ValueError, 'drop_path_rate=1.5 is not allowed'),
    (ScaleNetSwin, dict(drop_path_rate=float('nan')), ValueError, 'drop_path_rate=nan is not allowed'),
    (ScaleNetSwin, dict(base='mmpretrain.VisionTransformer'), ValueError, 'not a backbone of this family'),
    (ScaleNetSwin, dict(base=1), ValueError, 'base=1 is not a backbone'),
    (ScaleNetSwin, dict(base='mmcv.Swin'), ValueError, "base='mmcv.Swin'.*mmdet.SwinTransformer"),
    (ScaleNetSwin, dict(arch='tiny', sdpa=1), ValueError, 'sdpa=1 is not allowed; give True or False'),
    (ScaleNetSwin, dict(base='mmdet.NoSwin'), ValueError, "base='mmdet.NoSwin'"),
    (ScaleNetSwin, dict(arch='tiny', layer_map=[[0, 0, 1, 1]] * 4), ValueError, 'alternation of plain and shifted'),
    (ScaleNetSwin, dict(arch='tiny', scale=1.25), ValueError, 'stages.0.blocks: scale=1.25 gives 2.5 positions'),
])
def test_wrong_arguments_are_named(cls, arguments, error, message):
    with pytest.raises(error, match=message):
        cls(**copy.deepcopy(arguments))


def test_out_indices_count_blocks_and_given_lists_stay_as_they_are():
    given = [1, -1]
    ours = ScaleNetDeiT(arch=DEIT_ARCH, img_size=32, patch_size=8, out_indices=given, out_type='featmap')
    assert given == [1, -1]
    assert list(ours.out_indices) == [3, 7]
    assert [tuple(o.shape) for o in ours(image((32, 32)))] == [(2, 24, 4, 4)] * 2
    assert list(ScaleNetDeiT(arch=DEIT_ARCH, out_indices=(-1, )).out_indices) == [7]
    swin = ScaleNetSwin(**SWIN_DIALECT, out_indices=(1, -1))
    assert [o.shape[1] for o in swin(image())] == [16, 64]


def test_intermediate_taps_are_those_of_the_same_relative_depth():
    """Interleaved at gate 0: tap i sees exactly block i's output."""
    parent = build_parent('mmseg-vit', out_indices=(0, 2, 3))
    parent.eval()
    ours = build_scalenet('mmseg-vit', out_indices=(0, 2, 3), layer_map='interleaved', gate=0).eval()
    copy_base(parent, ours)
    assert all(torch.equal(a, b) for a, b in zip(flatten(ours(image())), flatten(parent(image())), strict=True))


@every_parent
@pytest.mark.parametrize('size', [(64, 64), (96, 64), (33, 50), (17, 70)])
def test_any_input_size(name, size):
    ours = build_scalenet(name).eval()
    outputs = flatten(ours(image(size, batch=1)))
    assert outputs and all(torch.isfinite(o).all() for o in outputs)
    if 'swin' in name:
        height, width = size
        for i, out in enumerate(outputs):
            assert tuple(out.shape) == (1, 8 * 2**i, -(-height // (4 * 2**i)), -(-width // (4 * 2**i)))


@every_parent
def test_train_and_eval_return_the_module(name):
    ours = build_scalenet(name)
    assert ours.train() is ours and ours.training
    assert ours.eval() is ours and not any(m.training for m in ours.modules())


def test_frozen_blocks_stay_frozen_wherever_they_run():
    ours = ScaleNetDeiT(arch=DEIT_ARCH, frozen_stages=2)
    for _ in range(2):
        ours.train()
        layers = position_lists(ours)['layers']
        frozen = [not any(p.requires_grad for p in b.parameters()) for b in layers.blocks]
        assert frozen == [True, True, False, False]
        assert [b.training for b in layers.blocks] == [False, False, True, True]
        # positions 4 and 5 run the frozen blocks again and keep their adapters trainable
        assert [p.adapter.up.weight.requires_grad for p in layers.positions] == [False] * 2 + [True] * 6
        assert not ours.patch_embed.training and not ours.pos_embed.requires_grad


@pytest.mark.parametrize('name', ['mmpretrain-swin', 'mmdet-swin', 'mmseg-swin'])
def test_frozen_stages_of_swin_are_the_parents(name):
    parent = build_parent(name, frozen_stages=2)
    ours = build_scalenet(name, frozen_stages=2)
    parent.train()
    ours.train()
    state = {n: p.requires_grad for n, p in ours.named_parameters()}
    assert all(state[n] == p.requires_grad for n, p in parent.named_parameters())
    frozen_stage = 'stages.1.'
    assert not any(grad for n, grad in state.items() if n.startswith(frozen_stage))


@every_parent
def test_layer_depth_of_blocks_is_the_parents_and_adapters_follow_their_position(name):
    parent, ours = build_parent(name), build_scalenet(name, gate=0)
    if hasattr(type(parent), 'get_layer_depth'):
        for parameter, _ in parent.named_parameters():
            if parameter != 'dist_token':  # the parent counts this input token to the head
                assert ours.get_layer_depth(f'backbone.{parameter}', 'backbone.') == \
                    parent.get_layer_depth(f'backbone.{parameter}', 'backbone.')
    total = sum(p.num_base for p in position_lists(ours).values()) + 2
    depths = {n: ours.get_layer_depth(n) for n, _ in ours.named_parameters()}
    assert {d[1] for d in depths.values()} == {total}
    prefix = 'stages.2.blocks' if 'swin' in name else 'layers'
    first = 4 if 'swin' in name else 0
    found = [depths[f'{prefix}.positions.{p}.adapter.up.weight'][0] - first for p in range(8)]
    assert found == [1, 1, 2, 2, 3, 3, 4, 4]
    assert ours.get_layer_depth('head.weight', 'backbone.') == (total - 1, total)


@every_parent
@pytest.mark.parametrize('layer_map', ['cyclic', 'interleaved'])
def test_layer_depth_of_copies_is_the_parents_at_their_relative_depth(name, layer_map):
    """At scale 2: that of block i for those that run as 2 i and 2 i + 1."""
    parent, ours = build_parent(name), build_scalenet(name, share=False, layer_map=layer_map)
    given = getattr(parent, 'get_layer_depth', build_scalenet(name).get_layer_depth)  # not every parent counts
    for list_name, positions in position_lists(ours).items():
        for p in range(len(positions.layer_map)):
            for part, _ in positions.block_of(p).named_parameters():
                assert ours.get_layer_depth(f'backbone.{list_name}.{p}.{part}', 'backbone.') == \
                    given(f'backbone.{list_name}.{p // 2}.{part}', 'backbone.')
    for other in ('backbone.patch_embed.projection.weight', 'head.weight'):
        assert ours.get_layer_depth(other, 'backbone.') == given(other, 'backbone.')


@every_parent
def test_init_weights_keeps_the_adapters_a_no_op(name):
    init = [dict(type='TruncNormal', layer='Linear', std=.02, bias=0.)] if 'mmpretrain' in name else None
    ours = build_scalenet(name, gate=0.5, unshare='norms', init_cfg=init)
    with torch.no_grad():
        for p in ours.parameters():
            p.fill_(3.)
    ours.init_weights()
    for positions in position_lists(ours).values():
        for p, position in enumerate(positions.positions):
            assert not position.adapter.up.weight.any() and position.adapter.down.weight.std() > 0.01
            if position.gate is not None:
                assert position.gate.tolist() == [0.5, 0.5]
                for name, norm in position.own_norms().items():
                    assert torch.equal(norm.weight, positions.block_of(p).get_submodule(name).weight)


@pytest.mark.parametrize('name, key, content', [
    ('mmdet-swin', 'pretrained', lambda state: state),
    ('mmseg-swin', 'pretrained', lambda state: dict(state_dict=state)),
    ('mmseg-vit', 'pretrained', lambda state: state),
    ('mmseg-vit', 'part', lambda state: {**{f'image_encoder.{n}': v for n, v in state.items()},
                                         'text_encoder.x': torch.zeros(1)}),
])
def test_loads_the_file_however_the_library_names_it(tmp_path, name, key, content):
    parent, file = build_parent(name), str(tmp_path / 'base.pth')
    torch.save(content(parent.state_dict()), file)
    init = dict(pretrained=file) if key == 'pretrained' else dict(init_cfg=dict(type='Pretrained_Part',
                                                                                checkpoint=file))
    ours = build_scalenet(name, **init)
    ours.init_weights()
    state = ours.state_dict()
    assert all(torch.equal(state[n], value) for n, value in parent.state_dict().items())
    with pytest.raises(ValueError, match="pretrained='a.pth' and init_cfg=.* both name the start weights"):
        build_scalenet(name, **{**init, 'init_cfg': dict(type='Pretrained', checkpoint=file), 'pretrained': 'a.pth'})


@pytest.mark.parametrize('prefix', ['', 'backbone.'])
def test_a_swin_file_of_an_earlier_version_loads_as_into_the_parent(prefix):
    """Also as part of a whole model, which takes files by itself: the final norm was `norm`, and masks were kept."""
    parent = build_parent('mmpretrain-swin')
    old = {f'{prefix}{name.replace("norm3.", "norm.") if name.startswith("norm3") else name}': value
           for name, value in parent.state_dict().items()}
    old[f'{prefix}stages.0.blocks.1.attn.attn_mask'] = torch.zeros(1)
    for model in randomise(build_parent('mmpretrain-swin'), seed=1), build_scalenet('mmpretrain-swin'):
        root = torch.nn.ModuleDict(dict(backbone=model)) if prefix else model
        missing, unexpected = root.load_state_dict(dict(old), strict=False)
        assert not unexpected and all('.positions.' in name for name in missing)
        assert torch.equal(model.norm3.weight, parent.norm3.weight)


@pytest.mark.parametrize('init_cfg', [[], dict(type='TruncNormal', layer='Linear', std=0.02)])
def test_an_init_cfg_that_the_parent_refuses(init_cfg):
    model = build_scalenet('mmdet-swin', init_cfg=init_cfg)
    with pytest.raises(ValueError, match=r"init_cfg=.* is not allowed \(.*\); give dict\(type='Pretrained'"):
        model.init_weights()
    build_scalenet('mmpretrain-swin', init_cfg=init_cfg).init_weights()


@pytest.mark.parametrize('name', PARENTS)
def test_no_rate_of_drop_path_is_the_parents_default(name):
    rates = [[p.drop_path.drop_prob for positions in position_lists(build_scalenet(name, **rate)).values()
              for p in positions.positions] for rate in ({}, dict(drop_path_rate=None))]
    assert rates[0] == rates[1]


def test_a_broken_library_stops_nobody_who_does_not_need_it(monkeypatch):
    """E.g. one that was compiled for another torch raises anything."""
    def broken(name: str) -> types.ModuleType:
        if name.startswith('mmdet'):
            raise RuntimeError('compiled for another torch')
        return importlib.import_module(name)

    monkeypatch.setattr(scalenet, 'importlib', types.SimpleNamespace(import_module=broken))
    assert 'mmseg' in type(build_scalenet('mmseg-swin'))._parts[1].__module__
    assert 'mmseg' in type(ScaleNetSwin(**SWIN_DIALECT))._parts[1].__module__
    with pytest.raises(RuntimeError, match='compiled for another torch'):
        build_scalenet('mmdet-swin')


def test_every_registered_backbone_is_tested_here():
    assert set(mmscalenet.MODELS.module_dict) >= {'ScaleNetDeiT', 'ScaleNetSwin'}
    covered = {type(build_scalenet(name))._parts[0].__name__ for name in PARENTS}
    registered = {name for name, cls in mmscalenet.MODELS.module_dict.items() if issubclass(cls, mmscalenet.Expanded)}
    assert covered | {'ScaleNet'} == registered  # that is tried on all families, in test_any_backbone
