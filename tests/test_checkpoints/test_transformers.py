"""Files of transformers, written by its own ``save_pretrained``: the target computes what the source model computes."""
import http.server
import json
import os
import threading
from functools import partial
from pathlib import Path

import pytest
import torch
from checkpoint_zoo import DEPTHS, TARGETS, VIT, image, maps, mmpretrain_vit, randomise
from mmengine.registry import MODELS, init_default_scope
from test_heads import classifier

import mmscalenet
from mmscalenet.checkpoints import CheckpointError, load_pretrained, read_checkpoint

transformers = pytest.importorskip('transformers')

ARCH = dict(**VIT, feedforward_channels=128)
SMALL = dict(hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=128, image_size=32,
             patch_size=8, num_labels=5)
EPS = dict(norm_cfg=dict(type='LN', eps=1e-12))  # that of transformers' ViT and DeiT
SCALED = dict(layer_scale_init_value=1.)
SWIGLU = dict(**SCALED, layer_cfgs=dict(ffn_type='swiglu_fused'))


def vit(kind: str, model: str, **config) -> torch.nn.Module:
    config = getattr(transformers, f'{kind}Config')(**SMALL | config)
    return randomise(getattr(transformers, f'{kind}{model}')(config))


def swin(model: str, kind: str = 'Swin', **config) -> torch.nn.Module:
    config = getattr(transformers, f'{kind}Config')(**dict(image_size=128, embed_dim=16, depths=DEPTHS, num_labels=5,
                                                           num_heads=(1, 2, 4), window_size=4), **config)
    return randomise(getattr(transformers, f'{kind}{model}')(config))


def with_registers(**kwargs) -> mmscalenet.ScaleNetDeiT:
    return mmscalenet.ScaleNetDeiT(**dict(arch=ARCH, img_size=32, patch_size=8, out_type='featmap', gate=0.,
                                          num_register_tokens=4, **SCALED) | kwargs)


def target(name: str, **kwargs) -> torch.nn.Module:
    return mmscalenet.expand(TARGETS[name](**kwargs), gate=0.)


#: (source, what takes it, names of modules in the file that no backbone has)
PAIRS = {
    'ViT': (partial(vit, 'ViT', 'Model'), partial(target, 'mmpretrain_vit', **EPS), {'pooler'}),
    'ViT to mmseg': (partial(vit, 'ViT', 'ForImageClassification'), partial(target, 'mmseg_vit', **EPS),
                     {'classifier'}),
    'ViT of masked images': (partial(vit, 'ViT', 'ForMaskedImageModeling', encoder_stride=8),
                             partial(target, 'mmpretrain_vit', **EPS), {'mask_token', 'decoder'}),
    'MAE': (partial(vit, 'ViTMAE', 'Model', mask_ratio=0.), partial(target, 'mmpretrain_vit', **EPS), set()),
    'DeiT': (partial(vit, 'DeiT', 'ForImageClassificationWithTeacher'),
             partial(target, 'mmpretrain_distilled', **EPS), {'cls_classifier', 'distillation_classifier'}),
    'DINOv2': (partial(vit, 'Dinov2', 'ForImageClassification'), partial(target, 'mmpretrain_vit', **SCALED),
               {'mask_token', 'classifier'}),
    'DINOv2 giant': (partial(vit, 'Dinov2', 'Backbone', use_swiglu_ffn=True),
                     partial(target, 'mmpretrain_vit', **SWIGLU), {'mask_token'}),
    'DINOv2 with registers': (partial(vit, 'Dinov2WithRegisters', 'Model'), with_registers, {'mask_token'}),
    'Swin': (partial(swin, 'ForImageClassification'), partial(target, 'mmpretrain_swin'), {'classifier'}),
    'Swin to mmdet': (partial(swin, 'Model'), partial(target, 'mmdet_swin'), set()),
    'Swin to mmseg': (partial(swin, 'ForMaskedImageModeling'), partial(target, 'mmseg_swin'),
                      {'mask_token', 'decoder'}),
}
#: How a model is saved, and what of it is named as the checkpoint
FILES = {
    'safetensors': (dict(), 'model.safetensors'),
    'bin': (dict(safe_serialization=False), 'pytorch_model.bin'),
    'sharded': (dict(max_shard_size='30KB'), 'model.safetensors.index.json'),
    'sharded bin': (dict(safe_serialization=False, max_shard_size='30KB'), 'pytorch_model.bin.index.json'),
    'folder': (dict(), ''),
    'folder of shards': (dict(max_shard_size='30KB'), ''),
    'folder of bin shards': (dict(safe_serialization=False, max_shard_size='30KB'), ''),
}


def save(model: torch.nn.Module, folder: Path, how: str = 'safetensors') -> Path:
    options, name = FILES[how]
    model.save_pretrained(folder, **options)
    assert len(list(folder.glob('*-of-*'))) > 3 or 'max_shard_size' not in options
    return folder / name


@torch.no_grad()
def features(model: torch.nn.Module) -> torch.Tensor:
    """The last map (B, C, H, W) of a model of transformers."""
    is_swin = model.base_model_prefix == 'swin'
    x = image('swin' if is_swin else 'vit')
    if hasattr(model, 'stage_names'):  # Backbone
        return model(x).feature_maps[-1]
    if isinstance(model, transformers.ViTMAEModel):
        # it shuffles its patches
        noise = torch.arange(16.).expand(len(x), -1)
        tokens = model(x, noise=noise).last_hidden_state
    else:
        tokens = model.base_model(x).last_hidden_state
    side = 8 if is_swin else 4
    return tokens[:, -side * side:].transpose(1, 2).unflatten(2, (side, side))


@pytest.mark.parametrize('pair', PAIRS)
def test_output_equals_the_source(pair, tmp_path):
    """Grown with a closed gate: what the base computes, too."""
    make, build, heads = PAIRS[pair]
    model, backbone = make(), randomise_base(build())
    report = load_pretrained(backbone, save(model, tmp_path))

    expected = features(model)
    assert expected.std() > .1
    out = maps(backbone, 'swin' if 'Swin' in pair else 'vit')[-1]
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)
    assert f'{"Swin" if "Swin" in pair else "ViT"} of transformers' in report.source
    used, unused = [], set()
    for name, _ in model.named_parameters():
        if any(head in name for head in heads):
            unused.add(name.rpartition('embeddings.')[2])
        else:
            used.append(name)
    assert {name for name in report.ignored if not name.endswith('relative_position_index')} == unused
    merged = sum(f'.{part}.' in name for name in used for part in ('key', 'value'))
    assert len(report.loaded) == len(used) - merged
    assert all('.positions.' in name or name.startswith(('norm0.', 'norm1.')) for name in report.newly_initialised)


def randomise_base(backbone: torch.nn.Module) -> torch.nn.Module:
    own = {name: value.clone() for name, value in backbone.state_dict().items() if '.positions.' in name}
    randomise(backbone, seed=1).load_state_dict(own, strict=False)
    return backbone


@pytest.mark.parametrize('name', ['mmdet_swin', 'mmpretrain_swin'])
def test_every_stage_of_a_swin_of_dense_prediction(name, tmp_path):
    """In a detector of transformers each output has its norm, and they have names of their own."""
    model = swin('Backbone', out_features=['stage1', 'stage2', 'stage3'])
    backbone = randomise(TARGETS[name](), seed=1)
    assert not load_pretrained(backbone, save(model, tmp_path)).newly_initialised
    with torch.no_grad():
        expected = model(image('swin')).feature_maps
    for value, wanted in zip(maps(backbone, 'swin'), expected, strict=True):
        torch.testing.assert_close(value, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('how', FILES)
def test_every_file(how, tmp_path):
    model, backbone = vit('ViT', 'ForImageClassification'), mmpretrain_vit(**EPS)
    path = save(model, tmp_path, how)
    load_pretrained(randomise(backbone, seed=1), path)
    torch.testing.assert_close(maps(backbone, 'vit')[-1], features(model), atol=1e-5, rtol=1e-5)
    content = read_checkpoint(str(path))
    assert content.keys() == model.state_dict().keys()
    assert all(value.equal(content[name]) for name, value in model.state_dict().items())


def test_shards_from_a_url(tmp_path, monkeypatch):
    """They lie beside the index, and have the same names for every model."""
    models = {name: randomise(vit('ViT', 'Model'), seed) for seed, name in enumerate('ab')}
    for name, model in models.items():
        save(model, tmp_path / name, 'sharded')
    monkeypatch.setattr(torch.hub, '_hub_dir', str(tmp_path / 'hub'))

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args) -> None:
            pass

    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), partial(Handler, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        for name, model in models.items():
            url = f'http://127.0.0.1:{server.server_port}/{name}/model.safetensors.index.json?download=true'
            content = read_checkpoint(url)
            assert all(value.equal(content[key]) for key, value in model.state_dict().items())
            next((tmp_path / name).glob('*-of-*')).unlink()
            assert read_checkpoint(url).keys() == content.keys()  # kept
    finally:
        server.shutdown()
        server.server_close()


# heads

@pytest.mark.parametrize('family', ['vit', 'swin'])
@torch.no_grad()
def test_the_classifier_computes_what_that_of_the_file_does(family, tmp_path):
    model = vit('ViT', 'ForImageClassification') if family == 'vit' else swin('ForImageClassification')
    expected = model(image(family)).logits
    assert expected.std(0).min() > 1e-3
    out = classifier(family, save(model, tmp_path, 'sharded'))(image(family))
    torch.testing.assert_close(out, expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_both_heads_of_deit(tmp_path):
    model = vit('DeiT', 'ForImageClassificationWithTeacher')
    init_cfg = dict(checkpoint=str(save(model, tmp_path)))
    init_default_scope('mmpretrain')
    ours = MODELS.build(dict(
        type='ImageClassifier',
        backbone=dict(type='mmscalenet.ScaleNetDeiT', base='mmpretrain.DistilledVisionTransformer', arch=ARCH, gate=0.,
                      img_size=32, patch_size=8, **EPS, init_cfg=dict(type='Pretrained', **init_cfg)),
        head=dict(type='DeiTClsHead', num_classes=5, in_channels=32,
                  init_cfg=dict(type='mmscalenet.PretrainedHead', **init_cfg))))
    ours.init_weights()
    ours.eval()
    torch.testing.assert_close(ours(image('vit')), model(image('vit')).logits, atol=1e-5, rtol=1e-5)


def test_the_wider_head_of_dinov2_is_refused(tmp_path):
    """It takes the class token and the mean of the patches, side by side."""
    path = save(vit('Dinov2', 'ForImageClassification'), tmp_path)
    head = dict(type='VisionTransformerClsHead', num_classes=5, in_channels=32,
                init_cfg=dict(type='mmscalenet.PretrainedHead', checkpoint=str(path)))
    init_default_scope('mmpretrain')
    with pytest.raises(CheckpointError, match=r'classifier.weight is \(5, 64\) in the file, \(5, 32\) in the model'):
        MODELS.build(head).init_weights()


# refusals

@pytest.mark.parametrize('pair', ['DeiT', 'DINOv2 with registers', 'Swin'])
def test_every_missing_tensor_is_refused(pair):
    make, build, heads = PAIRS[pair]
    model, backbone = make(), build()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    state = model.state_dict()
    for name in state:
        if name.endswith('relative_position_index') or any(head in name for head in heads):
            continue
        with pytest.raises(CheckpointError, match='the file lacks|no ViT or Swin backbone|no position embedding'):
            load_pretrained(backbone, {key: value for key, value in state.items() if key != name})
    assert all(before[name].equal(value) for name, value in backbone.state_dict().items())


@pytest.mark.parametrize(('make', 'reason'), [
    (partial(vit, 'Beit', 'Model'), r'the file lacks pos_embed.*no place for .*lambda_1'),
    (partial(swin, 'Model', 'Swinv2'), 'a Swin V2, which has another attention'),
    (lambda: transformers.ConvNextModel(transformers.ConvNextConfig(hidden_sizes=[8] * 4, depths=[1] * 4)),
     'no ViT or Swin backbone in it'),
    (partial(vit, 'Yolos', 'Model', image_size=[32, 32]), 'no place for .*detection_tokens'),
    (partial(vit, 'ViT', 'Model', num_channels=1), r'patch_embed.projection.weight \(32, 1, 8, 8\) in the file'),
], ids=['BEiT', 'Swin V2', 'ConvNeXt', 'YOLOS', 'gray'])
def test_other_models_are_refused(make, reason):
    state = make().state_dict()
    with pytest.raises(CheckpointError, match=reason):
        load_pretrained(TARGETS['mmdet_swin']() if 'Swin V2' in reason else mmpretrain_vit(), state)


@pytest.mark.skipif(not hasattr(transformers, 'DINOv3ViTModel'), reason='transformers before 4.56')
@pytest.mark.parametrize('how', ['safetensors', 'sharded'])
def test_dinov3_is_refused(how, tmp_path):
    path = save(vit('DINOv3ViT', 'Model', num_register_tokens=4), tmp_path, how)
    with pytest.raises(CheckpointError, match='a DINOv3, whose rotary positions no parent here has'):
        load_pretrained(with_registers(), path)


def test_a_shard_that_runs_code_is_refused(tmp_path):
    class Attack:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(tmp_path / 'made'), )

    path = save(vit('ViT', 'Model'), tmp_path, 'sharded bin')
    shard = sorted(tmp_path.glob('*-of-*.bin'))[-1]
    torch.save({**torch.load(shard), 'note': Attack()}, shard)
    for checkpoint in path, tmp_path:
        with pytest.raises(CheckpointError, match=rf'{shard.name}: refused.*mkdir'):
            read_checkpoint(checkpoint)
    assert not (tmp_path / 'made').exists()


def test_shards_that_do_not_belong_together_are_refused(tmp_path):
    path = save(vit('ViT', 'Model'), tmp_path, 'sharded')
    first, second, *_ = sorted(tmp_path.glob('*-of-*'))
    content = second.read_bytes()
    second.write_bytes(first.read_bytes())
    with pytest.raises(CheckpointError, match=rf'{path.name}: {second.name} is not the one that it lists: they differ'):
        read_checkpoint(path)
    second.write_bytes(content[:-10])
    with pytest.raises(CheckpointError, match=rf'{second.name}: truncated'):
        read_checkpoint(path)
    second.unlink()
    with pytest.raises(CheckpointError, match=rf'{second.name}: No such file'):
        read_checkpoint(path)


@pytest.mark.parametrize('content', [
    '{', '[]', '{}', '{"weight_map": 1}', '{"weight_map": ["model.safetensors"]}', '{"weight_map": {"a": []}}',
    '[' * 100_000, b'\xff\xfe',
    *({'weight_map': {'a': file}} for file in ('../file.pth', '/file.pth', 'x/../../file.pth', '..', '', '.', 1, None,
                                               'model.safetensors.index.json', '..\\file.pth', 'https://host/file.pth'))
], ids=lambda content: str(content)[:50])
def test_bad_index(content, tmp_path):
    torch.save({'a': torch.ones(1)}, tmp_path / 'file.pth')
    path = tmp_path / 'folder' / 'model.safetensors.index.json'
    path.parent.mkdir()
    if isinstance(content, dict):
        content = json.dumps(content)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    expected = r'index\.json: (damaged, or no index|refused, as it names)|/\.\.: no regular file'
    with pytest.raises(CheckpointError, match=expected):
        read_checkpoint(path.parent)
