"""Every config under configs/: it builds, trains real steps at reduced size, and is what its name says."""
import copy
import inspect
import re
from functools import cache
from pathlib import Path

import mmpretrain
import pytest
import torch
import yaml
from dense import SIZE, detection_batch, reduce_detector, reduce_segmentor, segmentation_batch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope, init_default_scope
from mmpretrain.models import SwinTransformer, VisionTransformer
from mmpretrain.structures import DataSample

from mmscalenet import Expanded
from mmscalenet.engine import CPUAmpOptimWrapper
from mmscalenet.expansion import position_lists

ROOT = Path(__file__).resolve().parents[2] / 'configs'
CONFIGS = sorted(str(path.relative_to(ROOT)) for path in ROOT.rglob('*.py') if '_base_' not in path.parts)
#: Detectors and segmentors small enough as they are, and the backbones pretrained for them.
SCENES = [name for name in CONFIGS if name.startswith('fashion_scenes/')]
SMALL = [*SCENES, *(name for name in CONFIGS if name.startswith('study/'))]
#: Detectors and segmentors for COCO and ADE20K.
DENSE = [name for name in CONFIGS if name.startswith(('mask_rcnn', 'upernet'))]
SHRINK = 8


@cache
def read(name: str) -> Config:
    return Config.fromfile(ROOT / name)


def load(name: str) -> Config:
    cfg = copy.deepcopy(read(name))
    init_default_scope(cfg.default_scope)
    return cfg


def parent_of(backbone: dict) -> type:
    """The backbone of mmpretrain, or that of the config's library if the arguments are its own."""
    name = {'ScaleNetDeiT': 'VisionTransformer', 'ScaleNetSwin': 'SwinTransformer'}
    kind = backbone.type.removeprefix('mmscalenet.')
    library = 'mmpretrain' if 'arch' in backbone else DefaultScope.get_current_instance().scope_name
    return MODELS.get(f'{library}.{name.get(kind, kind)}')


def reduce_classifier(model: dict) -> None:
    """An eighth of the width on a small image; depth, layer map and all else as in the config."""
    backbone, head = model.backbone, model.head
    arch = parent_of(backbone).arch_zoo[backbone.arch] if isinstance(backbone.arch, str) else backbone.arch
    backbone.arch = {key: value // SHRINK if key in ('embed_dims', 'feedforward_channels') else value
                     for key, value in arch.items()}
    backbone.drop_path_rate = 0.  # every branch takes part in every step
    head.in_channels //= SHRINK
    if backbone.img_size == 224:
        backbone.img_size = 64
        if 'depths' in arch:
            backbone.window_size = 2


REDUCE = {'mmpretrain': reduce_classifier, 'mmdet': reduce_detector, 'mmseg': reduce_segmentor}
BATCH = {'mmdet': detection_batch, 'mmseg': segmentation_batch}


def drop_pretrained(config: dict) -> None:
    """Removes every ``init_cfg`` that would load a file."""
    for part in [config, *(value for value in config.values() if isinstance(value, dict))]:
        if isinstance(part.get('init_cfg'), dict) and 'checkpoint' in part['init_cfg']:
            part['init_cfg'] = None


def build(cfg: Config) -> BaseModel:
    cfg.model.setdefault('data_preprocessor', cfg.get('data_preprocessor'))
    if not any(cfg.filename.endswith(name) for name in SMALL):
        REDUCE[cfg.default_scope](cfg.model)
    drop_pretrained(cfg.model)
    model = MODELS.build(cfg.model)
    model.init_weights()
    return model


def batch(cfg: Config) -> dict:
    """Random images as a data loader gives them: four for a classifier, two for dense prediction."""
    if cfg.default_scope in BATCH:
        return BATCH[cfg.default_scope](cfg.model)
    backbone = cfg.model.backbone
    shape = backbone.get('in_channels', 3), backbone.img_size, backbone.img_size
    return dict(inputs=[torch.randint(0, 256, shape, dtype=torch.uint8) for _ in range(4)],
                data_samples=[DataSample().set_gt_label(i) for i in range(4)])


# that of DINOv2 has 22 M parameters
@pytest.mark.parametrize('name', [pytest.param(name, marks=[pytest.mark.slow] * ('study/dinov2' in name))
                                  for name in CONFIGS])
def test_trains(name):
    cfg = load(name)
    model = build(cfg)
    wrapper, dtype = dict(cfg.optim_wrapper), torch.float32
    if wrapper.get('type') == 'AmpOptimWrapper':
        if cfg.default_scope == 'mmdet':  # its operators know no bfloat16 on a CPU
            wrapper.update(type='OptimWrapper')
            del wrapper['dtype']
        else:
            wrapper['type'], dtype = CPUAmpOptimWrapper, torch.bfloat16
    optim_wrapper = build_optim_wrapper(model, wrapper)
    dtypes = set()
    model.backbone.patch_embed.projection.register_forward_hook(lambda *args: dtypes.add(args[-1].dtype))
    before = {key: value.clone() for key, value in model.named_parameters()}
    for _ in range(2):  # in the first step nothing flows back through a classifier that starts at zero
        losses = model.train().train_step(batch(cfg), optim_wrapper)
        assert torch.isfinite(losses['loss'])
    unchanged = [key for key, value in model.named_parameters() if torch.equal(value, before[key])]
    not_run = _not_run(model)
    assert unchanged == [key for key, _ in model.named_parameters() if key.startswith(not_run)]
    assert dtypes == {dtype}


@pytest.mark.parametrize('name', [name for name in CONFIGS if 'mask' in name])
def test_heads_know_the_strides_of_their_maps(name):
    """Else boxes are looked for at other places than those at which the maps show them, without a word."""
    model = build(load(name)).eval()
    size = 448  # a multiple of 32 patches of 14, and of 64
    with torch.no_grad():
        strides = [size / level.shape[-1] for level in model.extract_feat(torch.zeros(1, 3, size, size))]
    assert [stride[0] for stride in model.rpn_head.anchor_generator.strides] == strides
    for extractor in (model.roi_head.bbox_roi_extractor, model.roi_head.mask_roi_extractor):
        assert list(extractor.featmap_strides) == strides[:len(extractor.featmap_strides)]


def _not_run(model: BaseModel) -> tuple[str, ...]:
    """Of a backbone that runs a part of its positions, the names of the others."""
    return tuple(f'backbone.{name}.positions.{p}.' for name, positions in position_lists(model.backbone).items()
                 for p in range(len(positions.layer_map)) if p not in positions.running)


@pytest.mark.parametrize('name', CONFIGS)
def test_name_says_how_long_it_trains(name):
    """``..._100e_...`` trains 100 epochs, and the learning rate reaches its end with the last of them."""
    cfg = load(name)
    unit, number = duration(name)
    length = cfg.train_cfg[f'max_{unit}']
    dataset = cfg.train_dataloader.dataset
    times = dataset.times if dataset.type == 'RepeatDataset' else 1
    assert length * times == number
    last = cfg.param_scheduler[-1]
    assert last.get('end', length) == length and max(last.get('milestones', [0])) < length
    assert last.get('by_epoch', True) == (unit == 'epochs')


def duration(name: str) -> tuple[str, int]:
    """Epochs or iterations that a config's name tells; if it tells none, its first line does or names its base."""
    if found := re.search(r'[-_](\d+)([eixk])_', name):
        unit, factor = dict(e=('epochs', 1), x=('epochs', 12), i=('iters', 1), k=('iters', 1000))[found[2]]
        return unit, int(found[1]) * factor
    text = (ROOT / name).read_text()
    if found := re.match(r"_base_ = '([\w/-]+\.py)'", text):
        return duration(found[1])
    number, thousand, unit = re.match(r'# .*, (\d+)(k?) (epochs|iter)', text).groups()
    return dict(iter='iters').get(unit, unit), int(number) * (1000 if thousand else 1)


@pytest.mark.parametrize('name', DENSE)
def test_dense_config_is_what_its_name_says(name):
    """Scale, checkpointing, mixed precision; and it starts, in so many words, from the file of just this base."""
    cfg = load(name)
    backbone = cfg.model.backbone
    family = re.search('swin|dinov2|$', name)[0] or 'deit'
    size = re.search('tiny|small|base|$', name)[0] or dict(swin='tiny', deit='small')[family]
    parent = parent_of(backbone)
    given = {key: value.default for key, value in inspect.signature(parent).parameters.items()} | dict(backbone)
    zoo = (SwinTransformer if family == 'swin' else VisionTransformer).arch_zoo
    arch = zoo[size if family == 'swin' else f'{family}-{size}']
    given |= zoo[given['arch']] if 'arch' in given else dict(
        feedforward_channels=given['mlp_ratio'] * given['embed_dims'])
    assert {key: given[key] for key in arch} == arch

    file = dict(swin=f'swin_{size}_patch4_window7_224.pth', deit=f'deit-{size}_pt-',
                dinov2=f'dinov2_vit{size[0]}14_pretrain.pth')[family]
    assert f'/{file}' in backbone.init_cfg.checkpoint
    assert backbone.init_cfg.checkpoint == visible_checkpoint(ROOT / name)
    assert family != 'swin' or backbone.window_size == 7
    assert backbone.scale == (1 if '-x1_' in name else 2)
    assert backbone.get('with_cp', False) == ('checkpointing' in name)
    dtype = re.search('bf16|fp16|$', name)[0]
    assert cfg.optim_wrapper.get('dtype') == dict(bf16='bfloat16', fp16='float16').get(dtype)
    assert cfg.optim_wrapper.type == ('AmpOptimWrapper' if dtype else 'OptimWrapper')

    if '-x1_' in name or 'checkpointing' in name:
        model = build(cfg)
        positions = [position for part in position_lists(model.backbone).values() for position in part.positions]
        assert all(position.with_cp == ('checkpointing' in name) for position in positions)
    if '-x1_' in name:
        options = {key: value for key, value in cfg.model.backbone.items()
                   if key in inspect.signature(parent).parameters}
        plain = parent(**options)
        assert shapes(model.backbone) == shapes(plain)


def visible_checkpoint(path: Path) -> str:
    """The file to start from, as the config or the one that it varies says it."""
    text = path.read_text()
    found = re.search(r"^checkpoint = '(.*)'$", text, re.MULTILINE)
    return found[1] if found else visible_checkpoint(
        path.parent / re.search(r"^_base_ = '(\.[\w./-]+)'$", text, re.MULTILINE)[1])


def test_upernet_deit_normalises_its_last_tap_alone():
    """At scale 2 too, where the taps on blocks 2, 5, 8 and 11 are those of positions 5, 11, 17 and 23."""
    backbone = build(load('upernet_scalenet_deit.py')).backbone.eval()
    tokens = {}
    for p, position in enumerate(position_lists(backbone)['layers'].positions):
        position.register_forward_hook(lambda *args, p=p: tokens.update({p: args[-1][:, 1:]}))
    with torch.no_grad():
        backbone.norm1.weight.uniform_(1, 2)
        outs = backbone(torch.rand(2, 3, *SIZE))
        normalised = backbone.norm1(tokens[23])
    expected = [tokens[5], tokens[11], tokens[17], normalised]
    assert len(tokens) == 24 and len(outs) == 4
    assert all(torch.equal(out.flatten(2).mT, tap) for out, tap in zip(outs, expected, strict=True))


@pytest.mark.parametrize('name', [name for name in CONFIGS if 'scratch' in name])
def test_twin_differs_in_depth_alone(name):
    """The twin from scratch is as deep as the grown model, stage by stage, and its base in all else."""
    folder, size = re.fullmatch(r'(\w+)/(\w+-\w+)-depth\d+_scratch-.*\.py', name).groups()
    grown = next(other for other in CONFIGS if re.fullmatch(rf'{folder}/scalenet-{size}-x2_\d+e_.*\.py', other))
    twin, grown = load(name), load(grown)
    depth = re.search(r'-depth(\d+)_', name)[1]
    model = build(twin)
    assert not isinstance(model.backbone, Expanded)
    lists = [list(stage.blocks) for stage in model.backbone.stages] if hasattr(model.backbone, 'stages') \
        else [list(model.backbone.layers)]
    assert sum(map(len, lists)) == int(depth)
    assert [len(blocks) for blocks in lists] == [len(positions)
                                                 for positions in position_lists(build(grown).backbone).values()]
    for key in ('train_dataloader', 'val_dataloader', 'optim_wrapper', 'param_scheduler', 'custom_hooks'):
        assert twin.get(key) == grown.get(key), key


@pytest.mark.parametrize('name', [name for name in CONFIGS if 'trained-on' in name
                                  and name not in SCENES and 'wsd' not in name])  # those: test_wsd.py
def test_trained_on_is_the_base(name):
    """It has the parent's parameters under the parent's names, and starts from the same file as the grown model."""
    cfg = load(name)
    checkpoints = {cfg.model.backbone.init_cfg.checkpoint, cfg.model.head.init_cfg.checkpoint}
    grown = load(next(other for other in CONFIGS if re.fullmatch(
        name.replace('_trained-on-', '-x2_').replace('/', '/scalenet-'), other)))
    assert checkpoints == {grown.model.backbone.init_cfg.checkpoint}
    ours = shapes(build(cfg))
    cfg.model.backbone = {key: value for key, value in cfg.model.backbone.items()
                          if key not in ('scale', 'adapter', 'init_cfg')} | dict(type=parent_of(cfg.model.backbone))
    assert ours == shapes(MODELS.build(cfg.model))


def shapes(model: torch.nn.Module) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in model.named_parameters()}


@pytest.mark.parametrize('name', [name for name in SCENES if re.search('-x2|trained-on', name)])
def test_scenes_start_from_the_whole_trained_model(name):
    """The file that they start from is the last of the base's training, and lacks only what positions own. With closed
    gates every output of the backbone is the base's bit for bit."""
    cfg = load(name)
    base = load(re.sub('scalenet-|-x2.*|_trained.*', '', name) + (
        '_3e_fashion-scenes.py' if 'mask-rcnn' in name else '_6000i_fashion-scenes.py'))
    last = f'epoch_{base.train_cfg.max_epochs}.pth' if 'mask-rcnn' in name else f'iter_{base.train_cfg.max_iters}.pth'
    assert cfg.load_from == f'work_dirs/{Path(base.filename).stem}/{last}'
    model, trained = build(cfg).eval(), build(base).eval()
    missing, unexpected = model.load_state_dict(trained.state_dict(), strict=False)
    assert unexpected == []
    assert all('.positions.' in key for key in missing) and bool(missing) == ('-x2' in name)
    if '-gated_' in name:
        x = torch.rand(1, 3, 224, 224)
        with torch.no_grad():
            outs, expected = model.backbone(x), trained.backbone(x)
        assert len(outs) == len(expected) and all(map(torch.equal, outs, expected))


@pytest.mark.parametrize('name', [name for name in CONFIGS if re.search('stacking|no-adapter', name)])
def test_baselines_hold_what_they_say(name):
    model = build(load(name))
    lists = position_lists(model.backbone).values()
    assert all(position.adapter is None for positions in lists for position in positions.positions)
    assert all(positions.share != ('stacking' in name) for positions in lists)


def test_pretrained_files_are_those_of_the_zoo():
    """Every file, and the top-1 its comment gives, is in mmpretrain's own index for the config that ours builds on."""
    zoo = set()
    for folder in ('deit', 'swin_transformer'):
        index = Path(mmpretrain.__file__).parent / '.mim/configs' / folder / 'metafile.yml'
        for model in yaml.safe_load(index.read_text())['Models']:
            top1 = model['Results'][0]['Metrics'].get('Top 1 Accuracy')
            zoo.add((model['Config'].removeprefix('configs/'), model['Weights'].split('/v0/')[-1], top1))
    ours = set()
    for name in CONFIGS:
        text = (ROOT / name).read_text()
        url = re.search(r"^checkpoint = 'https://[^/]+/mmclassification/v0/(.*)'", text, re.MULTILINE)
        if url and 'mmpretrain::' in text:
            ours.add((re.search('mmpretrain::(.*)\'', text)[1], url[1], float(re.search(r'([\d.]+) top-1', text)[1])))
    assert len(ours) == 6 and ours <= zoo
