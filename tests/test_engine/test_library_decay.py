"""Layer-wise rates by the constructors of mmdet and mmseg, in configs that they ship."""
from pathlib import Path

import mmdet
import mmseg
import mmseg.engine.optimizers
import pytest
import torch
from families import build_family
from mmengine.config import Config
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from torch import nn

import mmscalenet
from mmscalenet.engine import grow_checkpoint
from mmscalenet.engine.optimizers.library_decay import let_libraries_count_positions


def rates(config: Config, backbone: nn.Module) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay of every parameter of a model with that backbone."""
    model = nn.Module()
    model.backbone, model.neck = backbone, nn.Linear(2, 2)
    let_libraries_count_positions(config)
    config.optim_wrapper.type = 'OptimWrapper'
    config.optim_wrapper.pop('loss_scale', None)
    with DefaultScope.overwrite_default_scope(config.default_scope):
        groups = build_optim_wrapper(model, config.optim_wrapper).optimizer.param_groups
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {names[parameter]: (group['lr'], group['weight_decay']) for group in groups for parameter in group['params']}


@pytest.mark.parametrize('library, config, name', [
    (mmdet, 'convnext/mask-rcnn_convnext-t-p4-w7_fpn_amp-ms-crop-3x_coco.py', 'mmpretrain-convnext'),
    (mmseg, 'convnext/convnext-tiny_upernet_8xb2-amp-160k_ade20k-512x512.py', 'mmpretrain-convnext'),
    (mmseg, 'mae/mae-base_upernet_8xb2-amp-160k_ade20k-512x512.py', 'mmseg-mae'),
    (mmseg, 'beit/beit-base_upernet_8xb2-160k_ade20k-640x640.py', 'mmseg-beit'),
])
@pytest.mark.parametrize('share', [True, False])
def test_the_bases_have_their_rates_and_what_was_added_that_of_its_depth(library, config, name, share):
    config = Config.fromfile(Path(library.__file__).parent / '.mim/configs' / config)
    base = rates(config, build_family(name))
    grown = rates(config, mmscalenet.expand(build_family(name), layer_map='interleaved', share=share))
    assert len({rate for rate, _ in base.values()}) > 3
    assert max(rate for rate, _ in grown.values()) == max(rate for rate, _ in base.values())
    if share:
        assert all(grown[key] == value for key, value in base.items())
    else:  # interleaved: positions 2 i and 2 i + 1 are copies of block i
        blocks = [key for key in base if '.layers.' in key or '.stages.' in key]
        for key in blocks:
            start, number, rest = _split(key)
            assert all(grown[f'{start}{2 * number + copy}{rest}'] == base[key] for copy in (0, 1)), key
    own = [key for key in grown if '.positions.' in key]
    assert own and {grown[key][0] for key in own} <= {rate for rate, _ in base.values()}


@pytest.mark.parametrize('options', [dict(), dict(adapter=None, share=False)], ids=str)
def test_a_run_grown_in_the_middle(options, tmp_path):
    """The file has the groups that tools/train.py builds of its config."""
    def config(**backbone: object) -> Config:
        return Config(dict(
            default_scope='mmseg', train_cfg=dict(type='IterBasedTrainLoop', max_iters=10),
            model=dict(type='EncoderDecoder', test_cfg=dict(mode='whole'), train_cfg=dict(), backbone=dict(
                type='mmscalenet.ScaleNet', base='mmseg.BEiT', img_size=(32, 32), patch_size=16, embed_dims=16,
                num_layers=4, num_heads=2, out_indices=(3, ), **backbone),
                decode_head=dict(type='FCNHead', in_channels=16, channels=8, num_classes=2, num_convs=1)),
            optim_wrapper=dict(
                type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3), paramwise_cfg=dict(
                    num_layers=4, decay_rate=.5, decay_type='layer_wise'),
                constructor='LearningRateDecayOptimizerConstructor')))

    def build(cfg: Config) -> OptimWrapper:
        with DefaultScope.overwrite_default_scope('mmseg'):
            return build_optim_wrapper(MODELS.build(cfg.model), cfg.optim_wrapper)

    base = config(scale=1, adapter=None)
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(base.model)
        wrapper = build_optim_wrapper(model, base.optim_wrapper)
    torch.save(dict(state_dict=model.state_dict(), optimizer=wrapper.state_dict(), message_hub=dict(runtime_info={}),
                    meta=dict(epoch=0, iter=4, cfg=base.pretty_text)), tmp_path / 'base.pth')
    mmseg.registry.OPTIM_WRAPPER_CONSTRUCTORS.register_module(  # as nobody has changed it
        name='LearningRateDecayOptimizerConstructor', force=True,
        module=mmseg.engine.optimizers.LearningRateDecayOptimizerConstructor)
    cfg = config(scale=2, **options)
    groups = grow_checkpoint(tmp_path / 'base.pth', cfg)['optimizer']['param_groups']
    expected = build(cfg).optimizer.param_groups
    assert [(group['lr'], len(group['params'])) for group in groups] == [
        (group['lr'], len(group['params'])) for group in expected]
    assert max(group['lr'] for group in groups) == pytest.approx(1e-3)


def _split(name: str) -> tuple[str, int, str]:
    """'backbone.stages.0.1.gamma' -> 'backbone.stages.0.', 1, '.gamma'; of a transformer 'backbone.layers.', 1, ..."""
    parts = name.split('.')
    place = 2 if parts[1] == 'layers' else 3
    return '.'.join(parts[:place]) + '.', int(parts[place]), '.' + '.'.join(parts[place + 1:])
