"""Every config under configs/: it builds, trains real steps at reduced size, and is what its name says."""
import re
from pathlib import Path

import mmpretrain
import pytest
import torch
import yaml
from dense import detection_batch, reduce_detector, reduce_segmentor, segmentation_batch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmpretrain.structures import DataSample

from mmscalenet import Expanded
from mmscalenet.expansion import position_lists

ROOT = Path(__file__).resolve().parents[2] / 'configs'
CONFIGS = sorted(str(path.relative_to(ROOT)) for path in ROOT.rglob('*.py') if '_base_' not in path.parts)
#: Detectors and segmentors small enough as they are, and the backbones pretrained for them.
SCENES = [name for name in CONFIGS if name.startswith('fashion_scenes/')]
SHRINK = 8


def load(name: str) -> Config:
    cfg = Config.fromfile(ROOT / name)
    init_default_scope(cfg.default_scope)
    return cfg


def parent_of(backbone: dict) -> type:
    name = {'ScaleNetDeiT': 'VisionTransformer', 'ScaleNetSwin': 'SwinTransformer'}
    kind = backbone.type.removeprefix('mmscalenet.')
    return MODELS.get(f'mmpretrain.{name.get(kind, kind)}')


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
    if not any(cfg.filename.endswith(name) for name in SCENES):
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


@pytest.mark.parametrize('name', CONFIGS)
def test_trains(name):
    cfg = load(name)
    model = build(cfg)
    if cfg.optim_wrapper.get('type') == 'AmpOptimWrapper' and not torch.cuda.is_available():
        cfg.optim_wrapper = {**cfg.optim_wrapper, 'type': 'OptimWrapper'}
        assert cfg.optim_wrapper.pop('dtype') in ('float16', 'bfloat16')
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    before = {key: value.clone() for key, value in model.named_parameters()}
    for _ in range(2):  # in the first step nothing flows back through a classifier that starts at zero
        losses = model.train().train_step(batch(cfg), optim_wrapper)
        assert torch.isfinite(losses['loss'])
    unchanged = [key for key, value in model.named_parameters() if torch.equal(value, before[key])]
    assert unchanged == []


@pytest.mark.parametrize('name', CONFIGS)
def test_name_says_how_long_it_trains(name):
    """``..._100e_...`` trains 100 epochs, and the learning rate reaches its end with the last of them."""
    cfg = load(name)
    epochs = re.search(r'(\d+)e_', name)
    if epochs:
        assert cfg.train_cfg.max_epochs == int(epochs[1])
        assert cfg.param_scheduler[-1].get('end', cfg.train_cfg.max_epochs) == cfg.train_cfg.max_epochs


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


@pytest.mark.parametrize('name', [name for name in CONFIGS if 'trained-on' in name and name not in SCENES])
def test_trained_on_is_the_base(name):
    """It has the parent's parameters under the parent's names, and starts from the same file as the grown model."""
    cfg = load(name)
    checkpoints = {cfg.model.backbone.init_cfg.checkpoint, cfg.model.head.init_cfg.checkpoint}
    grown = load(next(other for other in CONFIGS if re.fullmatch(
        name.replace('_trained-on-', '-x2_').replace('/', '/scalenet-'), other)))
    assert checkpoints == {grown.model.backbone.init_cfg.checkpoint}
    shapes = {key: value.shape for key, value in build(cfg).named_parameters()}
    cfg.model.backbone = {key: value for key, value in cfg.model.backbone.items()
                          if key not in ('scale', 'adapter', 'init_cfg')} | dict(type=parent_of(cfg.model.backbone))
    assert shapes == {key: value.shape for key, value in MODELS.build(cfg.model).named_parameters()}


@pytest.mark.parametrize('name', [name for name in SCENES if re.search('-x2_|trained-on', name)])
def test_scenes_start_from_the_whole_trained_model(name):
    """The file that they start from is the last of the base's training, and lacks only what positions own."""
    cfg = load(name)
    base = load(re.sub('scalenet-|-x2.*|_trained.*', '', name) + (
        '_3e_fashion-scenes.py' if 'mask-rcnn' in name else '_2100i_fashion-scenes.py'))
    last = f'epoch_{base.train_cfg.max_epochs}.pth' if 'mask-rcnn' in name else f'iter_{base.train_cfg.max_iters}.pth'
    assert cfg.load_from == f'work_dirs/{Path(base.filename).stem}/{last}'
    missing, unexpected = build(cfg).load_state_dict(build(base).state_dict(), strict=False)
    assert unexpected == []
    assert all('.positions.' in key for key in missing) and bool(missing) == ('-x2_' in name)


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
