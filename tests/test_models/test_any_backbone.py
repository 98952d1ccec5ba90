"""``ScaleNet(base=...)`` of every family, from configs, with files of the parent."""
import copy

import pytest
import torch
from families import FAMILIES, build_family, outputs_of
from mmengine.registry import DefaultScope
from parents import flatten, randomise
from torch import nn

import mmscalenet
from mmscalenet.checkpoints import CheckpointError, load_pretrained
from mmscalenet.engine.grown_config import scalenet_options
from mmscalenet.expansion import position_lists
from mmscalenet.expansion.families import LISTS, is_known

every_family = pytest.mark.parametrize('name', FAMILIES)


def config_of(name: str, **options) -> dict:
    parent, arguments = FAMILIES[name]
    return dict(type='mmscalenet.ScaleNet', base=f'{name.split("-")[0]}.{parent.__name__}',
                **copy.deepcopy(arguments), **options)


def build(name: str, **options) -> nn.Module:
    return mmscalenet.MODELS.build(config_of(name, **options))


def assert_equal(ours: object, theirs: object) -> None:
    for a, b in zip(flatten(ours), flatten(theirs), strict=True):
        assert torch.equal(a, b)


@every_family
def test_a_config_builds_an_instance_of_both(name):
    model = build(name, scale=1, adapter=None)
    assert isinstance(model, mmscalenet.ScaleNet) and isinstance(model, FAMILIES[name][0])
    load_pretrained(model, build_family(name).state_dict())
    assert_equal(outputs_of(model, name), outputs_of(build_family(name), name))


@every_family
@pytest.mark.parametrize('prefix', ['', 'backbone.'])
def test_a_file_of_the_parent_loads_completely(name, prefix, tmp_path):
    """Named in the config; with closed gates the net is then the parent."""
    parent = build_family(name)
    outputs_of(parent, name, training=True)  # moves the statistics of batch norms
    state = {f'{prefix}{key}': value for key, value in parent.state_dict().items()}
    if prefix:
        state['head.fc.weight'] = torch.zeros(2, 3)
    torch.save(dict(state_dict=state), tmp_path / 'base.pth')
    model = build(name, gate=0., layer_map='interleaved',
                  init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'base.pth')))
    randomise(model)
    model.init_weights()
    for key, value in parent.state_dict().items():
        assert torch.equal(model.state_dict()[key], value), key
    assert_equal(outputs_of(model, name), outputs_of(parent, name))


@every_family
def test_a_grown_net_loads_again(name, tmp_path):
    model = randomise(build(name, gate=0.5))
    torch.save(model.state_dict(), tmp_path / 'grown.pth')
    again = build(name, gate=0.5)
    load_pretrained(again, tmp_path / 'grown.pth')
    assert_equal(outputs_of(again, name), outputs_of(model, name))


@every_family
def test_copies_start_from_the_base(name):
    unshared = build(name, share=False, adapter=None)
    load_pretrained(unshared, build_family(name).state_dict())
    shared = build(name, adapter=None)
    load_pretrained(shared, build_family(name).state_dict())
    assert_equal(outputs_of(unshared, name), outputs_of(shared, name))


def test_files_that_do_not_fit_change_nothing():
    model = build('mmpretrain-convnext')
    before = copy.deepcopy(model.state_dict())
    state = build_family('mmpretrain-convnext').state_dict()
    key = 'stages.1.0.pointwise_conv1.weight'
    trained = build('mmpretrain-convnext', layer_map='interleaved').state_dict()
    for broken, message in (
            ({name: value for name, value in state.items() if name != key}, f'the file lacks {key}'),
            (state | {'stages.1.2.norm.weight': torch.ones(16)}, 'the model has no place for stages.1.2.norm.weight'),
            (state | {key: torch.zeros(3, 3)}, r'other shapes: .*\(3, 3\) in the file, \(64, 16\) in the model'),
            (state | {key: torch.full((64, 16), torch.nan)}, 'NaN or inf in stages.1.0.pointwise_conv1.weight'),
            ({'conv1.weight': torch.zeros(1)}, 'none of the names of the model is in it, .*names start with conv1'),
            (trained, r'was trained with layer_map=\[0, 0, 1, 1\] in stages\.0'),
            ({f'{start}.{name}': value for start in 'ab' for name, value in state.items()},
             "several backbones in it; say which with prefix: 'a.', 'b.'")):
        with pytest.raises(CheckpointError, match=f'does not fit ScaleNet_mmpretrain_ConvNeXt: .*{message}'):
            load_pretrained(model, broken)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize('arguments, error, message', [
    (dict(), ValueError, "ScaleNet needs base, .*base='mmpretrain.ConvNeXt'"),
    (dict(base='mmpretrain.ConvNext'), ValueError, "base='mmpretrain.ConvNext' is not a backbone"),
    (dict(base='timm.ConvNeXt'), ValueError, "base='timm.ConvNeXt' is not a backbone"),
    (dict(base='mmpretrain.ConvNeXt', depth_scale=2), TypeError, 'does not take depth_scale=2'),
    (dict(base='mmpretrain.ResNet', depth=18), TypeError, 'cannot expand a .*ResNet'),
    (dict(base='mmpretrain.TNT'), TypeError, 'cannot expand a .*TNT'),
])
def test_what_is_wrong_in_a_config(arguments, error, message):
    with pytest.raises(error, match=message):
        mmscalenet.ScaleNet(**arguments)


def test_every_known_family_is_tried():
    """Those of DeiT and Swin are tried everywhere."""
    tried = {f'{c.__module__}.{c.__qualname__}' for parent, _ in FAMILIES.values() for c in parent.__mro__}
    assert {name for name in LISTS if name not in tried} <= {
        'mmpretrain.models.backbones.swin_transformer.SwinTransformer', 'mmdet.models.backbones.swin.SwinTransformer',
        'mmseg.models.backbones.swin.SwinTransformer', 'mmseg.models.backbones.vit.VisionTransformer'}
    assert all(is_known(parent) for parent, _ in FAMILIES.values())


@every_family
def test_grow_turns_the_backbone_of_a_config_into_one_of_ours(name):
    from mmengine.config import Config
    library, parent = name.split('-')[0], FAMILIES[name][0].__name__
    cfg = Config(dict(default_scope=library, model=dict(backbone=dict(type=parent))))
    assert scalenet_options(cfg) == dict(type='mmscalenet.ScaleNet', base=f'{library}.{parent}')


@every_family
def test_depths_for_layer_decay_rise_as_modules_run(name):
    """From the stem's 0 on; norms at outputs, and all behind the blocks, have the last. Twins' position encodings run
    behind the first block of a stage, and have the depth before it."""
    model, called = build(name, scale=1, adapter=None), []
    for part, module in model.named_modules():
        if list(module.parameters(recurse=False)) and part and 'position_encodings' not in part:
            module.register_forward_hook(lambda *_, part=part: called.append(part))
    outputs_of(model, name)
    last = model.get_layer_depth('head.weight', 'backbone.')[0]
    inside = [depth for part in called if (depth := model.get_layer_depth(f'{part}.weight')[0]) != last]
    # by ConvNeXt's own count 4 and 5 are those of more blocks in the third stage
    expected = {0, 1, 2, 3, 6} if 'convnext' in name else set(range(last))
    assert inside == sorted(inside) and inside[0] == 0 and set(inside) == expected


@pytest.mark.parametrize('norm', ['layers.0.2', 'layers.3.2'])
def test_norms_at_outputs_of_mit_have_the_last_depth(norm):
    model = build('mmseg-mit')
    assert isinstance(model.get_submodule(norm), nn.LayerNorm)
    assert model.get_layer_depth(f'{norm}.weight') == model.get_layer_depth('head.weight', 'backbone.')


def test_the_default_scope_stays_that_of_the_config():
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = build('mmseg-mit')
    assert len(position_lists(model)) == 4
