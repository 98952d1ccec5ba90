"""The head of a classifier from the files that its backbone is loaded from, as the configs name it."""
import os
from pathlib import Path

import pytest
import timm.models.deit
import torch
from checkpoint_zoo import DEPTHS, VIT, image, randomise, timm_swin, timm_vit, to_official_swin
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS, init_default_scope

from mmscalenet.checkpoints import CheckpointError

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
DEIT = dict(arch=dict(**VIT, feedforward_channels=128), img_size=32, patch_size=8)
SWIN = dict(arch=dict(embed_dims=16, depths=DEPTHS, num_heads=(1, 2, 4)), img_size=128, window_size=4,
            out_indices=(2, ))


def classifier(family: str, file: object, classes: int = 5, **head) -> BaseModel:
    """Our standard config at a small size, initialised with a file; expanded, it computes what its base does."""
    cfg = Config.fromfile(CONFIGS / f'scalenet_{"deit" if family == "vit" else "swin"}_in1k.py')
    cfg.model.backbone.update(gate=0., drop_path_rate=0., **(DEIT if family == 'vit' else SWIN))
    cfg.model.head.update(in_channels=32 if family == 'vit' else 64, num_classes=classes, **head)
    for part in (cfg.model.backbone, cfg.model.head):
        part.init_cfg.checkpoint = str(file)
    cfg.model.train_cfg = None
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    model.init_weights()
    model.eval()
    return model


def mmpretrain_file(family: str, like: object) -> dict:
    """What mmengine's runner keeps of the classifier that ``classifier`` builds from another file."""
    return dict(meta=dict(epoch=1), state_dict=classifier(family, like).state_dict())


@pytest.mark.parametrize(('family', 'source'), [
    ('vit', lambda state: state),  # timm's, bare
    ('vit', lambda state: {'model': state}),  # official
    ('vit', lambda state: {'state_dict': {f'module.{name}': value for name, value in state.items()}}),
    ('swin', lambda state: state),
    ('swin', lambda state: {'model': to_official_swin(state), 'epoch': 300}),
], ids=['timm ViT', 'official DeiT', 'of DataParallel', 'timm Swin', 'official Swin'])
@torch.no_grad()
def test_the_classifier_computes_what_that_of_the_file_does(family, source, tmp_path):
    model = randomise(timm_vit() if family == 'vit' else timm_swin())
    torch.save(source(model.state_dict()), tmp_path / 'file.pth')
    expected = model(image(family))
    assert expected.std(0).min() > 1e-3  # not what any head gives
    torch.testing.assert_close(classifier(family, tmp_path / 'file.pth')(image(family)), expected, atol=1e-4, rtol=1e-4)

    torch.save(mmpretrain_file(family, tmp_path / 'file.pth'), tmp_path / 'again.pth')
    torch.testing.assert_close(
        classifier(family, tmp_path / 'again.pth')(image(family)), expected, atol=1e-4, rtol=1e-4)


def test_both_heads_of_a_distilled_one(tmp_path):
    state = randomise(timm_vit(timm.models.deit.VisionTransformerDistilled)).state_dict()
    torch.save({'model': state}, tmp_path / 'file.pth')
    init_default_scope('mmpretrain')
    head = MODELS.build(dict(type='DeiTClsHead', num_classes=5, in_channels=32, init_cfg=dict(
        type='mmscalenet.PretrainedHead', checkpoint=tmp_path / 'file.pth')))
    head.init_weights()
    assert all(head.state_dict()[f'layers.{name}'].equal(state[name])
               for name in ('head.weight', 'head.bias', 'head_dist.weight', 'head_dist.bias'))


@pytest.mark.parametrize(('change', 'classes', 'match'), [
    (lambda state: [state.pop('head.weight'), state.pop('head.bias')], 5,
     r'has no head.layers.head.weight or head.fc.weight or head.weight or classifier.weight or '
     r'cls_classifier.weight\.'),
    (lambda state: state.pop('head.bias'), 5, 'has no head.layers.head.bias or'),
    (lambda state: None, 4, r'head.weight is \(5, 32\) in the file, \(4, 32\) in the model'),
    (lambda state: state['head.bias'].fill_(float('nan')), 5, 'NaN or inf in head.bias'),
], ids=['a backbone alone', 'half a head', 'other classes', 'NaN'])
def test_what_does_not_fit_is_refused(change, classes, match, tmp_path):
    state = randomise(timm_vit()).state_dict()
    change(state)
    torch.save({'model': state}, tmp_path / 'file.pth')
    with pytest.raises(CheckpointError, match=match) as raised:
        classifier('vit', tmp_path / 'file.pth', classes)
    assert str(raised.value).startswith(f'{tmp_path / "file.pth"} does not fit VisionTransformerClsHead: ')


def test_a_hidden_layer_is_neither_left_out_nor_lost(tmp_path):
    """mmpretrain fills it with random numbers after it has been loaded."""
    state = randomise(timm_vit()).state_dict()
    init_cfg = dict(type='mmscalenet.PretrainedHead', checkpoint=tmp_path / 'file.pth')
    head = dict(type='VisionTransformerClsHead', num_classes=5, in_channels=32, init_cfg=init_cfg)
    init_default_scope('mmpretrain')
    torch.save(state, tmp_path / 'file.pth')
    with pytest.raises(CheckpointError, match='the head of the model has a hidden layer, .* Load it with load_from'):
        MODELS.build(dict(head, hidden_dim=32)).init_weights()
    for name in 'pre_logits.fc', 'head.layers.pre_logits':
        torch.save({**state, f'{name}.weight': torch.randn(32, 32)}, tmp_path / 'file.pth')
        with pytest.raises(CheckpointError, match='the head of the file has a hidden layer'):
            MODELS.build(head).init_weights()


class Attack:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.folder), )


def test_a_file_that_runs_code_is_refused_unless_trusted(tmp_path):
    torch.save({'model': timm_vit().state_dict(), 'note': Attack(tmp_path / 'made')}, tmp_path / 'file.pth')
    init_default_scope('mmpretrain')
    cfg = dict(type='mmscalenet.PretrainedHead', checkpoint=tmp_path / 'file.pth')
    head = dict(type='VisionTransformerClsHead', num_classes=5, in_channels=32)
    with pytest.raises(CheckpointError, match='trusted=True: .* or a PretrainedHead'):
        MODELS.build(dict(head, init_cfg=cfg)).init_weights()
    assert not (tmp_path / 'made').exists()
    MODELS.build(dict(head, init_cfg=dict(cfg, trusted=True))).init_weights()
    assert (tmp_path / 'made').exists()
