import copy
import re
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from checkpoint_zoo import SOURCES, TAKERS, TARGETS, VIT, maps, mmpretrain_swin, mmpretrain_vit, mmseg_vit, randomise
from mmengine.model.weight_init import PretrainedInit
from mmpretrain.models.backbones import DeiT3, SwinTransformerV2
from mmpretrain.models.utils import resize_pos_embed

import mmscalenet
from mmscalenet.checkpoints import CheckpointError, convert, load_pretrained
from mmscalenet.expansion import Adapter, position_lists
from mmscalenet.registry import ADAPTERS


def snapshot(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def refuse(model, file, match, **kwargs):
    """Loading is refused with the reason, and every tensor of the model is bit for bit as it was."""
    randomise(model, seed=5)
    before = snapshot(model)
    with pytest.raises(CheckpointError, match=match) as caught:
        load_pretrained(model, file, **kwargs)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(before[name].equal(after[name]) for name in before)
    return str(caught.value)


def file_of(source):
    return SOURCES[source][1]()[0]


# refusals

def test_other_width():
    refuse(mmpretrain_vit(embed_dims=64), file_of('timm_deit'), 'file has embed_dims=32, the model embed_dims=64')
    refuse(mmpretrain_swin(embed_dims=32), file_of('official_swin'), 'file has embed_dims=16, the model embed_dims=32')
    refuse(mmpretrain_vit(feedforward_channels=64), file_of('timm_deit'),
           r'other shapes: layers\.0\.ffn\.layers\.0\.0\.weight \(128, 32\) in the file, \(64, 32\) in the model')
    refuse(mmpretrain_vit(patch_size=4), file_of('timm_deit'), r'patch_embed\.projection\.weight \(32, 3, 8, 8\)')
    refuse(mmpretrain_swin(num_heads=(2, 2, 4)), file_of('official_swin'), r'bias_table \(49, 1\).*\(49, 2\)')


def test_other_depth():
    refuse(mmpretrain_vit(num_layers=4), file_of('timm_deit'), 'file has 3 blocks, the base of the model has 4')
    refuse(mmpretrain_swin(depths=(2, 2, 4)), file_of('official_swin'), 'file has 2-2-2 blocks.*has 2-2-4')
    refuse(mmpretrain_swin(depths=(2, 2), num_heads=(1, 2), out_indices=(0, 1)), file_of('timm_swin'),
           'file has 2-2-2 blocks.*has 2-2;')
    grown = mmscalenet.expand(mmpretrain_vit(), scale=2, share=False, adapter=None).state_dict()
    refuse(mmpretrain_vit(), grown, r'file has 6 blocks.*has 3.*share=False')


def test_other_family():
    refuse(mmpretrain_vit(), file_of('official_swin'), 'the file holds a Swin, the model is a ViT or DeiT')
    refuse(mmpretrain_swin(), file_of('timm_deit'), 'the file holds a ViT or DeiT, the model is a Swin')
    refuse(torch.nn.Linear(2, 2), file_of('timm_deit'), 'neither a ViT')
    refuse(mmpretrain_vit(), {'conv1.weight': torch.ones(1), 'fc.weight': torch.ones(1)}, 'no ViT or Swin.*conv1, fc')
    refuse(mmpretrain_vit(), {'state_dict': {}, 'meta': {}}, 'no tensors in it.*state_dict, meta')
    mvit = {'patch_embed.proj.weight': torch.ones(16, 3, 7, 7), 'stages.0.blocks.0.norm1.weight': torch.ones(16)}
    refuse(mmpretrain_swin(), mvit, r'of another family; its names start with patch_embed\.proj\.weight, stages\.0')
    for source in SOURCES:  # of several stems none may be silently the wrong one
        file = {key: value for key, value in convert(file_of(source)).state.items() if 'patch_embed.proj' in key}
        refuse(mmpretrain_vit(), file, 'neither a ViT nor a Swin')


@pytest.mark.parametrize('expanded', [False, True])
@pytest.mark.parametrize('source', ['timm_deit', 'timm_distilled', 'mmseg_vit', 'official_swin', 'mmdet_swin'])
def test_every_missing_tensor_is_refused(source, expanded):
    """Without any one of the tensors of the base, the file is refused by name."""
    family, make, _ = SOURCES[source]
    target = next(iter(TAKERS[family]))
    model = TARGETS[target](**TAKERS[family][target])
    if expanded:
        mmscalenet.expand(model, scale=2)
    names = convert(make()[0]).state
    for name in names:
        if name.startswith(('norm0.', 'norm1.')):
            continue
        file = {key: value for key, value in names.items() if key != name}
        if name == 'patch_embed.projection.weight':
            refuse(model, file, 'no ViT or Swin backbone in it: neither patch_embed.projection.weight')
        else:
            refuse(model, file, f'the file lacks {name}')


def test_many_missing_tensors_are_counted():
    file = {key: value for key, value in file_of('timm_deit').items() if 'blocks.1' not in key or 'norm1.b' in key}
    message = refuse(mmpretrain_vit(), file, r'the file lacks layers\.1\.ln1\.weight, .* and 6 more')
    assert message.count('layers.1') == 5


def test_tensors_without_a_place_name_the_argument():
    refuse(mmpretrain_vit(), file_of('timm_distilled'),
           r"no place for dist_token \(give the backbone base='mmpretrain.DistilledVisionTransformer'\)")
    refuse(TARGETS['mmpretrain_distilled'](), file_of('timm_deit'), r"lacks dist_token \(.*base without distillation")
    refuse(mmseg_vit(patch_bias=False), file_of('timm_deit'), r'patch_embed\.projection\.bias \(.*patch_bias=True')
    refuse(mmpretrain_vit(), file_of('deit3'), r'layers\.0\.attn\.gamma1.*layer_scale_init_value=1e-5')
    refuse(mmpretrain_vit(layer_scale_init_value=1.), file_of('timm_deit'), r'lacks .*layer_scale_init_value=0')
    refuse(mmpretrain_vit(), {**file_of('timm_deit'), 'blocks.0.attn.q_norm.weight': torch.ones(8)}, 'q_norm')
    refuse(mmpretrain_vit(), mmseg_vit(final_norm=False).state_dict(), r'lacks ln1\..*final_norm=False')
    refuse(mmpretrain_swin(), mmpretrain_swin(use_abs_pos_embed=True).state_dict(), 'use_abs_pos_embed=True')


def test_the_class_token_is_left_out_for_a_model_without_one():
    whole, without = mmpretrain_vit(out_type='raw'), mmpretrain_vit(with_cls_token=False, out_type='featmap')
    file = file_of('timm_deit')
    load_pretrained(whole, file)
    report = load_pretrained(without, file)
    assert 'cls_token' in report.ignored
    assert torch.equal(without.pos_embed, whole.pos_embed[:, 1:])
    assert torch.equal(without.layers[0].attn.qkv.weight, whole.layers[0].attn.qkv.weight)


@pytest.mark.parametrize('dtype', [torch.int8, torch.bool, torch.complex64])
def test_what_is_no_weight(dtype):
    file = file_of('timm_deit')
    name = 'blocks.1.mlp.fc1.weight'
    file[name] = file[name].to(dtype)
    refuse(mmpretrain_vit(), file, rf'no weights.*layers\.1\.ffn\.layers\.0\.0\.weight \({str(dtype)[6:]}\)')


def test_numbers_beyond_the_models():
    """A double that is finite, and inf as a float; a half that is neither."""
    file = file_of('timm_deit')
    names = ['blocks.0.norm1.weight', 'blocks.0.norm1.bias']
    for name, dtype in zip(names, (torch.float64, torch.float16), strict=True):
        file[name] = file[name].to(dtype)
    expected = load_pretrained(mmpretrain_vit(), file).loaded
    assert 'layers.0.ln1.weight' in expected
    file[names[0]][3] = 1e300
    refuse(mmpretrain_vit(), file, r'NaN or inf in layers\.0\.ln1\.weight as float32')


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_nan(value):
    file = file_of('official_swin')
    file['model']['layers.1.blocks.0.mlp.fc2.bias'][3] = value
    refuse(mmpretrain_swin(), file, r'NaN or inf in stages\.1\.blocks\.0\.ffn\.layers\.1\.bias as float32;')


def test_prefix():
    file = file_of('whole_detector')
    for prefix in (None, 'backbone', 'backbone.'):
        assert load_pretrained(mmpretrain_swin(), file, prefix=prefix).loaded
    for prefix in ('neck', 'bone', 'encoder.'):
        refuse(mmpretrain_swin(), file, rf"prefix='{prefix}' matches no backbone in it; allowed are 'backbone\.'",
               prefix=prefix)

    # wrapped, beside another: the usual name wins, else it has to be said
    state = file_of('timm_deit')
    two = {f'{start}{name}': value * (1 if start == 'student.' else 0)
           for start in ('student.', 'teacher.') for name, value in state.items()}
    refuse(mmpretrain_vit(), two, r"several backbones in it; say which with prefix: 'student\.', 'teacher\.'")
    model = mmpretrain_vit()
    load_pretrained(model, two, prefix='student')
    assert model.cls_token.equal(state['cls_token'])
    load_pretrained(model, {f'module.backbone.{name}': value + 1 for name, value in state.items()}, prefix='backbone')
    assert model.cls_token.equal(state['cls_token'] + 1)
    # one that ends the other is meant by its whole name
    two = {f'{start}backbone.{name}': value + len(start) for start in ('', 'teacher.') for name, value in state.items()}
    for prefix, added in (('backbone', 0), ('teacher.backbone', 8)):
        load_pretrained(model, two, prefix=prefix)
        assert model.cls_token.equal(state['cls_token'] + added)


def test_wrappers():
    """The averaged weights that mmengine saves under 'state_dict' win over what else there is."""
    state = file_of('timm_deit')
    other = {name: value + 1 for name, value in state.items()}
    for file in ({'model': state, 'model_ema': other}, {'state_dict': state, 'ema_state_dict': other},
                 {'epoch': torch.tensor(1), 'model': {'state_dict': state}}, {'model_ema': state},
                 {'state_dict': state, 'message_hub': [1]}, {'state_dict': state, 'message_hub': {'runtime_info': 1}}):
        model = mmpretrain_vit()
        load_pretrained(model, file)
        assert model.cls_token.equal(state['cls_token'])
    itself = {'meta': 1}
    itself['model'] = itself
    refuse(mmpretrain_vit(), itself, 'no tensors in it')


def test_unreadable_file_leaves_the_model(tmp_path):
    path = tmp_path / 'cut.pth'
    torch.save(file_of('timm_deit'), path)
    path.write_bytes(path.read_bytes()[:-2000])
    refuse(mmpretrain_vit(), str(path), 'truncated')


# allowed

def test_final_norm_may_be_ignored():
    report = load_pretrained(mmseg_vit(final_norm=False), file_of('timm_deit'))
    assert report.ignored == ['head.weight', 'head.bias', 'ln1.weight', 'ln1.bias']
    report = load_pretrained(mmpretrain_swin(out_indices=(0, 1)), file_of('official_swin'))
    assert {'norm2.weight', 'norm2.bias'} <= set(report.ignored)
    assert report.newly_initialised == ['norm0.weight', 'norm0.bias', 'norm1.weight', 'norm1.bias']


@pytest.mark.parametrize('prefix', ['', 'encoder.'])
def test_what_pretraining_by_masked_images_needs_beside_it_is_ignored(prefix):
    """Official MAE, SimMIM and DINOv2 keep a mask token, MAE a decoder."""
    state = {name: value for name, value in file_of('timm_deit').items() if not name.startswith('head')}
    more = {'mask_token': torch.zeros(1, 1, 24), 'decoder_embed.weight': torch.ones(8, 24),
            'decoder_blocks.0.attn.qkv.weight': torch.ones(24, 8), 'decoder_pos_embed': torch.ones(1, 17, 8)}
    state = {f'{prefix}{name}': value for name, value in {**state, **more}.items()}
    report = load_pretrained(mmpretrain_vit(), state)
    assert len(report.ignored) == 4 and report.ignored[0] == 'mask_token'


# resizing

@pytest.mark.parametrize('target', ['mmpretrain_vit', 'mmseg_vit'])
@pytest.mark.parametrize('size, grid', [(48, (6, 6)), ((48, 24), (6, 3))])
@pytest.mark.parametrize('expanded', [False, True])
def test_other_image_size_of_vit(target, size, grid, expanded):
    state = file_of('timm_deit')
    model = TARGETS[target](img_size=size)
    if expanded:
        mmscalenet.expand(model, scale=2)
    report = load_pretrained(model, state)
    torch.testing.assert_close(model.pos_embed.data, resize_pos_embed(state['pos_embed'], (4, 4), grid, 'bicubic', 1))
    assert report.resized == {'pos_embed': f'4x4 to {grid[0]}x{grid[1]} patches'}


def test_other_image_size_of_distilled():
    state = file_of('timm_distilled')
    model = TARGETS['mmpretrain_distilled'](img_size=24)
    load_pretrained(model, state)
    torch.testing.assert_close(model.pos_embed.data, resize_pos_embed(state['pos_embed'], (4, 4), (3, 3), 'bicubic', 2))
    state['pos_embed'] = state['pos_embed'][:, :-3]
    refuse(model, state, 'pos_embed cannot be resized: its 13 positions are not a square')


@pytest.mark.parametrize('source', ['official', 'mmpretrain'])
@pytest.mark.parametrize('side, grid', [(32, 4), (48, 6)])
def test_deit3_has_tokens_and_no_rows_for_them(source, side, grid):
    build = partial(DeiT3, arch=dict(**VIT, feedforward_channels=128), patch_size=8)
    file = file_of('deit3') if source == 'official' else randomise(build(img_size=32)).state_dict()
    model = build(img_size=side)
    load_pretrained(mmscalenet.expand(model, gate=0.), file)
    expected = resize_pos_embed(file['pos_embed'], (4, 4), (grid, grid), 'bicubic', 0)
    torch.testing.assert_close(model.pos_embed.data, expected)
    deit = mmpretrain_vit(img_size=side, layer_scale_init_value=1e-5)
    load_pretrained(deit, file)
    torch.testing.assert_close(deit.pos_embed.data, F.pad(expected, (0, 0, 1, 0)))
    dense = mmpretrain_vit(img_size=side, layer_scale_init_value=1e-5, with_cls_token=False, out_type='featmap')
    load_pretrained(dense, file)
    torch.testing.assert_close(dense.pos_embed.data, expected)




@pytest.mark.parametrize('target', ['mmpretrain_vit', 'mmseg_vit'])
@pytest.mark.parametrize('size', [(24, 40), (40, 24), (56, 72)])
def test_a_class_token_and_a_grid_next_to_a_square(target, size):
    """1 + 3 * 5 rows are no 4 x 4 patches without a row for the token."""
    file = randomise(TARGETS[target](img_size=size)).state_dict()
    model = mmscalenet.expand(TARGETS[target](img_size=size), scale=2)
    assert load_pretrained(model, file).resized == {}
    assert model.pos_embed.equal(file['pos_embed'])
    if target == 'mmpretrain_vit':  # mmseg's keeps token and row
        dense = mmpretrain_vit(img_size=size, with_cls_token=False, out_type='featmap')
        load_pretrained(dense, file)
        assert dense.pos_embed.equal(file['pos_embed'][:, 1:])


def test_the_smoother_of_two_grids_is_taken():
    """Where the model has neither."""
    def smooth(height: int, width: int) -> torch.Tensor:
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing='ij')
        return torch.stack([torch.sin(0.3 * i + rows / 2 + i * columns / 9) for i in range(32)], -1).flatten(0, 1)[None]

    file = file_of('timm_deit')
    oblong = torch.cat((torch.randn(1, 1, 32), smooth(7, 9)), 1)
    for value in (smooth(8, 8), smooth(8, 8) + torch.randn(1, 64, 32) / 4):
        model = mmpretrain_vit(img_size=48)
        assert load_pretrained(model, {**file, 'pos_embed': value}).resized == {'pos_embed': '8x8 to 6x6 patches'}
        torch.testing.assert_close(model.pos_embed.data, F.pad(resize_pos_embed(value, (8, 8), (6, 6), 'bicubic', 0),
                                                               (0, 0, 1, 0)))
    for value in (oblong, oblong + torch.randn(1, 64, 32) / 4):
        refuse(mmpretrain_vit(img_size=48), {**file, 'pos_embed': value},
               'pos_embed cannot be resized: its 63 positions are not a square')


@pytest.mark.parametrize('target', ['mmpretrain_swin', 'mmdet_swin', 'mmseg_swin'])
@pytest.mark.parametrize('source', ['official_swin', 'mmdet_swin', 'mmpretrain_swin'])
@pytest.mark.parametrize('expanded', [False, True])
def test_other_window_size(target, source, expanded):
    """Window 4 -> 7, bicubic; the model's own index goes with it, or the forward would fail."""
    file = file_of(source)
    table = convert(file).state['stages.1.blocks.1.attn.w_msa.relative_position_bias_table']
    model = randomise(TARGETS[target](window_size=7), seed=2)
    if expanded:
        mmscalenet.expand(model, scale=2)
    index = model.stages[1].blocks.get_submodule('1').attn.w_msa.relative_position_index.clone()

    report = load_pretrained(model, file)

    attn = model.stages[1].blocks.get_submodule('1').attn.w_msa
    wanted = F.interpolate(table.T.reshape(1, 2, 7, 7), size=(13, 13), mode='bicubic', align_corners=False)
    torch.testing.assert_close(attn.relative_position_bias_table.data, wanted.reshape(2, 169).T)
    assert attn.relative_position_index.equal(index)
    assert set(report.resized.values()) == {'window 4 to 7'} and len(report.resized) == 6
    assert all(out.isfinite().all() for out in maps(model, 'swin'))
    assert '6 relative_position_bias_table, window 4 to 7' in str(report)


def test_absolute_position_embedding():
    file = randomise(mmpretrain_swin(use_abs_pos_embed=True)).state_dict()
    same, larger = mmpretrain_swin(use_abs_pos_embed=True), mmpretrain_swin(use_abs_pos_embed=True, img_size=160)
    load_pretrained(same, file)
    assert same.absolute_pos_embed.equal(file['absolute_pos_embed'])
    load_pretrained(larger, file)
    torch.testing.assert_close(larger.absolute_pos_embed.data, resize_pos_embed(
        file['absolute_pos_embed'], (32, 32), (40, 40), 'bicubic', 0))
    dense = TARGETS['mmdet_swin'](use_abs_pos_embed=True, pretrain_img_size=160)
    load_pretrained(dense, file)
    assert dense.absolute_pos_embed.equal(larger.absolute_pos_embed)


def test_half_precision_file():
    state = {name: value.half() for name, value in file_of('timm_deit').items()}
    model = mmpretrain_vit(img_size=48)
    load_pretrained(model, state)
    assert model.pos_embed.dtype == torch.float32 and model.cls_token.equal(state['cls_token'].float())


# expanded backbones

OPTIONS = [dict(scale=2), dict(scale=2, adapter=dict(type='LoRA')), dict(scale=2, gate=.1, unshare='norms'),
           dict(scale=2, adapter=None), dict(scale=2, share=False), dict(scale=2, share=False, adapter=None)]


@pytest.mark.parametrize('options', OPTIONS, ids=str)
@pytest.mark.parametrize('target', TARGETS)
def test_round_trip_of_an_expanded_backbone(target, options, tmp_path):
    family = 'swin' if 'swin' in target else 'vit'
    source = randomise(mmscalenet.expand(TARGETS[target](), **options))
    torch.save({'state_dict': {f'backbone.{key}': value for key, value in source.state_dict().items()}},
               tmp_path / 'expanded.pth')
    model = randomise(mmscalenet.expand(TARGETS[target](), **options), seed=1)

    report = load_pretrained(model, tmp_path / 'expanded.pth')

    assert all(value.equal(model.state_dict()[name]) for name, value in source.state_dict().items())
    for value, wanted in zip(maps(model, family), maps(source, family), strict=True):
        assert value.equal(wanted)
    assert not report.newly_initialised
    assert ('expanded ScaleNet' in report.source) == any('.positions.' in name for name in source.state_dict())


@ADAPTERS.register_module()
class SingleNumber(Adapter):
    """An adapter of a user's."""

    def __init__(self, block: torch.nn.Module, embed_dims: int) -> None:
        super().__init__()
        self.factor = torch.nn.Parameter(torch.zeros(()))

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return self.factor * h

    def reset_parameters(self) -> None:
        torch.nn.init.zeros_(self.factor)


def test_an_adapter_may_own_a_single_number():
    ours, other = (randomise(mmscalenet.expand(mmpretrain_vit(), adapter=dict(type='SingleNumber')), seed=seed)
                   for seed in (1, 2))
    load_pretrained(other, {f'backbone.{name}': value for name, value in ours.state_dict().items()})
    assert all(value.equal(ours.state_dict()[name]) for name, value in other.state_dict().items())
    assert other.layers.positions[3].adapter.factor != 0


def test_expanded_file_of_other_shape():
    file = randomise(mmscalenet.expand(mmpretrain_vit(), scale=2)).state_dict()
    refuse(mmpretrain_vit(), file, '3 blocks at 6 positions, the model has 3 at none')
    refuse(mmscalenet.expand(mmpretrain_vit(), scale=3), file, '3 blocks at 6 positions, the model has 3 at 9')
    refuse(mmscalenet.expand(mmpretrain_vit(), scale=2, share=False), file, '3 blocks at 6 .* 6 at 6')
    refuse(mmscalenet.expand(mmpretrain_vit(num_layers=6), scale=1), file, '3 blocks at 6 .* 6 at 6')
    refuse(mmscalenet.expand(mmpretrain_vit(), scale=2, gate=.1), file, r'file lacks layers\.positions\.3\.gate')
    refuse(mmscalenet.expand(mmpretrain_vit(), scale=2, adapter=dict(type='LoRA')), file, 'no place for .*adapter')


def test_expanded_file_with_another_layer_map():
    file = randomise(mmscalenet.expand(mmpretrain_vit(), layer_map='interleaved')).state_dict()
    refuse(mmscalenet.expand(mmpretrain_vit()), file, r'trained with layer_map=\[0, 0, 1, 1, 2, 2\] in layers')
    one_stage_less = mmscalenet.expand(mmpretrain_swin(), scale=(1, 2, 2), adapter=None).state_dict()
    refuse(mmscalenet.expand(mmpretrain_swin(), adapter=None), one_stage_less,
           r'trained with layer_map=\[0, 1\] in stages\.0\.blocks')
    once = mmscalenet.expand(mmpretrain_vit(), scale=1, share=False)
    refuse(once, mmscalenet.expand(mmpretrain_vit(num_layers=3), layer_map=[0, 1, 2]).state_dict() | {
        'layers.positions.layer_map': torch.tensor([0, 1, 1])}, 'whose blocks are shared; give the model share=True')


@pytest.mark.parametrize('layer_map', ['cyclic', 'interleaved', [0, 1, 2, 2, 1]])
def test_unshared_positions_are_filled_from_their_block(layer_map):
    state = file_of('timm_deit')
    scale = 5 / 3 if isinstance(layer_map, list) else 2
    model = mmscalenet.expand(mmpretrain_vit(), scale=scale, layer_map=layer_map, share=False)
    report = load_pretrained(randomise(model, seed=3), state)
    assert len(report.loaded) == sum('.positions.' not in name for name in model.state_dict())
    for position, block in enumerate(model.layers.layer_map):
        for ours, theirs in (('attn.qkv.weight', 'attn.qkv.weight'), ('ffn.layers.1.bias', 'mlp.fc2.bias')):
            value = model.layers.get_submodule(str(position)).state_dict()[ours]
            assert value.equal(state[f'blocks.{block}.{theirs}'])


@pytest.mark.parametrize('layer_map', ['cyclic', 'interleaved'])
def test_unshared_positions_are_filled_by_name_too(layer_map):
    """As mmengine loads the file of a whole classifier."""
    base = randomise(mmpretrain_vit())
    model = mmscalenet.expand(randomise(mmpretrain_vit(), seed=1), layer_map=layer_map, share=False, gate=0.)
    given = base.state_dict()
    missing, unexpected = model.load_state_dict(given, strict=False)
    assert not unexpected and all('.positions.' in name for name in missing)
    assert given.keys() == base.state_dict().keys()  # not changed
    for position, block in enumerate(model.layers.layer_map):
        ours = model.layers.get_submodule(str(position)).state_dict()
        assert all(value.equal(ours[name]) for name, value in base.layers[block].state_dict().items())


@pytest.mark.parametrize('target', ['mmpretrain_vit', 'mmseg_vit', 'mmdet_swin'])
def test_own_norms_follow_the_base(target):
    family = 'swin' if 'swin' in target else 'vit'
    source = randomise(TARGETS[target]())
    model = mmscalenet.expand(randomise(TARGETS[target](), seed=1), scale=2, gate=0., unshare='norms')
    report = load_pretrained(model, source.state_dict())
    assert not any('norm' in name for name in report.newly_initialised)
    norms = [name for name in model.state_dict() if re.search(r'positions\.\d+\.norm', name)]
    assert norms
    for name, positions in position_lists(model).items():
        for p, position in enumerate(positions.positions):
            for key, value in position.state_dict().items():
                if key.startswith('norm'):
                    block = source.get_submodule(name)[positions.layer_map[p]]
                    assert value.equal(getattr(getattr(block, key.split('.')[0]), key.split('.')[1]))
                    norms.remove(f'{name}.positions.{p}.{key}')
    assert not norms
    for value, wanted in zip(maps(model, family), maps(source, family), strict=True):
        torch.testing.assert_close(value, wanted, atol=1e-5, rtol=1e-5)


# configs and the log

def test_init_cfg(tmp_path):
    """As a config names it: the base's weights come from the file, and what positions own starts as without one."""
    path = str(tmp_path / 'official.pth')
    file, expected = SOURCES['official_swin'][1]()
    torch.save(file, path)
    config = dict(type='ScaleNetSwin', base='mmdet.SwinTransformer', scale=2, gate=0., embed_dims=16, depths=(2, 2, 2),
                  num_heads=(1, 2, 4), window_size=4, out_indices=(0, 1, 2))
    backbone = mmscalenet.registry.MODELS.build(
        dict(config, init_cfg=dict(type='Pretrained', checkpoint=path)))
    backbone.init_weights()
    torch.testing.assert_close(maps(backbone, 'swin')[-1], expected[0], atol=1e-5, rtol=1e-5)
    for wrong, match in ((dict(checkpoint=path + 'x'), 'No such file'), (dict(checkpoint=path, prefix='neck'), 'neck')):
        backbone = randomise(mmscalenet.registry.MODELS.build(dict(config, init_cfg=dict(type='Pretrained', **wrong))))
        before = copy.deepcopy(backbone.state_dict())
        with pytest.raises(CheckpointError, match=match):
            backbone.init_weights()
        assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())


def test_init_cfg_of_deit(tmp_path):
    path = str(tmp_path / 'deit.pth')
    file, expected = SOURCES['timm_deit'][1]()
    torch.save({'model': file}, path)
    backbone = mmscalenet.registry.MODELS.build(dict(
        type='ScaleNetDeiT', arch=dict(embed_dims=32, num_layers=3, num_heads=4, feedforward_channels=128), scale=2,
        gate=0., img_size=32, patch_size=8, out_type='featmap',
        init_cfg=dict(type='Pretrained', checkpoint=path)))
    backbone.init_weights()
    torch.testing.assert_close(maps(backbone, 'vit')[0], expected[0], atol=1e-5, rtol=1e-5)


def test_report(tmp_path, logged):
    path = str(tmp_path / 'official.pth')
    torch.save(file_of('official_swin'), path)
    model = mmscalenet.expand(TARGETS['mmdet_swin'](window_size=7), scale=2)
    report = load_pretrained(model, path)
    assert logged == [str(report)]
    lines = str(report).splitlines()
    assert lines[0] == f'checkpoint {path}, official Swin: {len(report.loaded)} tensors loaded'
    assert lines[1] == '  resized: 6 relative_position_bias_table, window 4 to 7'
    assert lines[2].startswith('  newly initialised: ') and 'norm0 (2), norm1 (2)' in lines[2]
    assert 'stages.*.blocks.positions.*.adapter' in lines[2]
    assert lines[3] == ('  ignored: head (2), layers.*.blocks.*.attn.relative_position_index (6), '
                        'layers.*.blocks.*.attn_mask (3)')
    assert len(lines) == 4 and max(map(len, lines)) < 400


@pytest.mark.parametrize('kind', [
    PretrainedInit, 'mmengine.Pretrained', 'mmengine.model.weight_init.PretrainedInit', None
])
def test_init_cfg_of_any_spelling_is_ours(kind, tmp_path):
    """The parents' own loading would leave out silently what has other names."""
    file = file_of('timm_deit')
    torch.save(file, tmp_path / 'official.pth')
    config = dict(checkpoint=str(tmp_path / 'official.pth'))
    reference = mmpretrain_vit()
    load_pretrained(reference, tmp_path / 'official.pth')
    options = dict(arch=dict(**VIT, feedforward_channels=128), img_size=32, patch_size=8, scale=1, adapter=None)
    model = mmscalenet.ScaleNetDeiT(**options, init_cfg=config if kind is None else dict(config, type=kind))
    model.init_weights()
    assert all(value.equal(model.state_dict()[name]) for name, value in reference.state_dict().items())


def test_lora_crosses_libraries():
    source = randomise(mmscalenet.expand(mmpretrain_vit(), adapter=dict(type='LoRA', rank=2)))
    model = mmscalenet.expand(mmseg_vit(), adapter=dict(type='LoRA', rank=2))
    load_pretrained(model, source.state_dict())
    for value, wanted in zip(maps(model, 'vit'), maps(source, 'vit'), strict=True):
        torch.testing.assert_close(value, wanted, atol=1e-5, rtol=1e-5)


def test_swin_v2_is_refused_by_name():
    file = SwinTransformerV2(arch=dict(embed_dims=8, depths=[1] * 4, num_heads=[1] * 4, extra_norm_every_n_blocks=0),
                             img_size=64, window_size=[2] * 4).state_dict()
    refuse(TARGETS['mmdet_swin'](), file, 'a Swin V2, which has another attention')
