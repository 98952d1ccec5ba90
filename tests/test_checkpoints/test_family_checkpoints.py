"""ConvNeXt and BEiT from elsewhere: parity with the models of timm and transformers given random weights."""
import re

import pytest
import timm.models.beit
import timm.models.convnext
import torch
from families import CONVNEXT, VIT, build_family, family_image
from mmpretrain.models import BEiTPretrainViT, BEiTViT
from parents import randomise
from torch import Tensor, nn

import mmscalenet
from mmscalenet.checkpoints import CheckpointError, load_pretrained
from mmscalenet.engine.hooks.start_weights_hook import fit_weights
from mmscalenet.models import ScaleNet

SIZES = dict(depths=(2, 2, 3, 2), dims=(8, 16, 16, 24))


def last(backbone: nn.Module, name: str) -> Tensor:
    backbone.eval()
    return backbone(family_image(name))[-1]


@pytest.mark.parametrize('version', ['', '-v2'])
@pytest.mark.parametrize('official', [False, True])
@pytest.mark.parametrize('wrapped', [False, True])
def test_convnext_of_timm_and_of_its_authors(version, official, wrapped):
    """Official names by timm's own rules for them, read backwards."""
    options = dict(use_grn=True, ls_init_value=None) if version else {}
    source = randomise(timm.models.convnext.ConvNeXt(**SIZES, **options, num_classes=3)).eval()
    state = to_official(source.state_dict()) if official else source.state_dict()
    if official:
        assert timm.models.convnext.checkpoint_filter_fn(dict(state), source).keys() == source.state_dict().keys()
    name = f'mmpretrain-convnext{version}'
    model = mmscalenet.expand(build_family(name, out_indices=(0, 3)), gate=0.)
    report = load_pretrained(model, dict(model={f'module.{key}': v for key, v in state.items()} if wrapped else state))
    assert all('positions' in key or key.startswith('norm0') for key in report.newly_initialised)
    with torch.no_grad():
        expected = source.forward_head(source.forward_features(family_image(name)), pre_logits=True)
    torch.testing.assert_close(last(model, name).detach(), expected, rtol=1e-5, atol=1e-5)


def to_official(state: dict) -> dict:
    result = {}
    for key, value in state.items():
        for old, new in (('stem.', 'downsample_layers.0.'), ('.blocks.', '.'), ('.conv_dw.', '.dwconv.'),
                         ('.mlp.fc', '.pwconv'), ('head.norm.', 'norm.'), ('head.fc.', 'head.'),
                         ('.mlp.grn.weight', '.grn.gamma'), ('.mlp.grn.bias', '.grn.beta')):
            key = key.replace(old, new)
        if '.downsample.' in key:
            stage, rest = key.removeprefix('stages.').split('.downsample.')
            key = f'downsample_layers.{stage}.{rest}'
        result[key] = value.reshape(1, 1, 1, -1) if '.grn.' in key else value
    return result


@pytest.mark.parametrize('version', ['', '-v2'])
@pytest.mark.parametrize('whole', [False, True])
def test_convnext_of_transformers(version, whole):
    transformers = pytest.importorskip('transformers')
    kind = 'ConvNextV2' if version else 'ConvNext'
    config = getattr(transformers, f'{kind}Config')(depths=[2, 2, 3, 2], hidden_sizes=[8, 16, 16, 24], num_labels=3,
                                                    layer_norm_eps=1e-6)
    source = randomise(getattr(transformers, f'{kind}{"ForImageClassification" if whole else "Model"}')(config)).eval()
    name = f'mmpretrain-convnext{version}'
    model = mmscalenet.expand(build_family(name, out_indices=(3, )), gate=0.)
    load_pretrained(model, source.state_dict())
    with torch.no_grad():
        inner = getattr(source, kind.lower()) if whole else source
        expected = inner(family_image(name)).pooler_output
    torch.testing.assert_close(last(model, name).detach(), expected, rtol=1e-5, atol=1e-5)


def test_beit_of_timm():
    source = randomise(timm.models.beit.Beit(
        img_size=32, patch_size=8, embed_dim=24, depth=4, num_heads=2, mlp_ratio=2, use_abs_pos_emb=False,
        use_rel_pos_bias=True, init_values=0.1, num_classes=3)).eval()
    name = 'mmpretrain-beit'
    model = mmscalenet.expand(build_family(name, use_abs_pos_emb=False, use_rel_pos_bias=True, out_indices=(3, ),
                                           out_type='avg_featmap', final_norm=False), gate=0.)
    load_pretrained(model, source.state_dict())
    with torch.no_grad():
        expected = source.forward_head(source.forward_features(family_image(name)), pre_logits=True)
    torch.testing.assert_close(last(model, name).detach(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('side', [32, 48])
@pytest.mark.parametrize('options', [dict(gate=0.), dict(share=False, adapter=None)], ids=str)
def test_beit_is_fine_tuned_from_its_pretraining(side, options):
    """As the parent takes it: the one table of all blocks for each, and resized."""
    file = randomise(BEiTPretrainViT(**VIT)).state_dict()
    base = BEiTViT(**VIT | dict(img_size=side), use_abs_pos_emb=False)
    model = mmscalenet.expand(BEiTViT(**VIT | dict(img_size=side), use_abs_pos_emb=False), layer_map='interleaved',
                              **options)
    try:
        base.load_state_dict({key: value.clone() for key, value in file.items()}, strict=False)
    except NotImplementedError:  # SciPy from 1.14 on has not what mmpretrain resizes tables with
        with pytest.raises(CheckpointError, match='its sizes cannot be made those of the model: .*interp2d'):
            load_pretrained(model, file)
        return
    report = load_pretrained(model, file)
    assert len(report.resized) == 4 * (side != 32) * (1 if 'gate' in options else 2)
    assert {name.split('.')[0] for name in report.newly_initialised} <= {'ln2', 'layers'}
    state = model.state_dict()
    for name, value in base.state_dict().items():
        if not name.startswith('ln2'):
            own = name if 'gate' in options else re.sub(r'(?<=^layers\.)\d+', lambda n: str(2 * int(n[0])), name)
            assert state[own].equal(value), name
    if 'gate' in options:
        grown = randomise(mmscalenet.expand(BEiTPretrainViT(**VIT), layer_map='interleaved', **options))
        # as microsoft/unilm's pretraining keeps it
        load_pretrained(model, grown.state_dict() | {'lm_head.weight': torch.ones(9, 24)})
        assert model.layers.positions[5].gate.equal(grown.layers.positions[5].gate)


@pytest.mark.parametrize('table', [torch.zeros(()), torch.zeros(5, 2), torch.zeros(52, 2, dtype=torch.int8)])
def test_a_table_of_no_window_is_refused(table):
    file = BEiTPretrainViT(**VIT).state_dict() | {'rel_pos_bias.relative_position_bias_table': table}
    model = mmscalenet.expand(BEiTViT(**VIT, use_abs_pos_emb=False))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(CheckpointError):
        load_pretrained(model, file)
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())


def test_other_image_sizes_as_the_parent_takes_them():
    """T2T's position embeddings: the parent resizes them, so the same ones come out."""
    file = randomise(build_family('mmpretrain-t2t')).state_dict()
    base, model = (build_family('mmpretrain-t2t', img_size=64) for _ in range(2))
    base.load_state_dict({key: value.clone() for key, value in file.items()})
    assert load_pretrained(mmscalenet.expand(model), file).resized == {'pos_embed': '(1, 5, 24) to (1, 17, 24)'}
    assert model.pos_embed.equal(base.pos_embed)


def test_what_is_missing_is_named_as_in_the_library():
    state = timm.models.convnext.ConvNeXt(**SIZES).state_dict()
    del state['stages.1.blocks.0.conv_dw.weight']
    with pytest.raises(CheckpointError, match='the file lacks stages.1.0.depthwise_conv.weight'):
        load_pretrained(mmscalenet.expand(build_family('mmpretrain-convnext')), state)


@pytest.mark.parametrize('options', [dict(scale=1), dict(layer_map='interleaved'), dict(share=False)])
def test_a_grown_file_of_another_map_is_refused(options):
    file = randomise(mmscalenet.expand(build_family('mmpretrain-convnext'), adapter=None)).state_dict()
    model = mmscalenet.expand(build_family('mmpretrain-convnext'), adapter=None, **options)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=r'trained with layer_map=\[0, 1, 0, 1\] in stages\.0'):
        load_pretrained(model, file)
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())


def test_a_run_starts_from_the_file_of_a_backbone_alone():
    """Of a family whose stem is not that of a ViT."""
    source = randomise(build_family('mmpretrain-convnext'))
    model = nn.Module()
    model.backbone = ScaleNet(base='mmpretrain.ConvNeXt', **CONVNEXT, gate=0.)
    state = fit_weights(model, source.state_dict(), 'file.pth')
    assert all(value.equal(state[f'backbone.{name}']) for name, value in source.state_dict().items())
