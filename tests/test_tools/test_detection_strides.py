"""A pyramid on patches of another size than 16 is refused until the heads know its strides."""
import re

import pytest
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from test_train_options import refused
from torch import nn

from mmscalenet.engine import UsageError
from mmscalenet.engine.hooks.detection_stride_hook import check_strides


@pytest.fixture
def plain_fields(det_fields):
    """A Mask R-CNN on a plain transformer with patches of 14, with mmdet's strides."""
    det_fields['model'].update(
        backbone=dict(
            _delete_=True, type='mmscalenet.ScaleNetDeiT', scale=2, img_size=56, patch_size=14, with_cls_token=False,
            arch=dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32), out_type='featmap'),
        neck=dict(_delete_=True, type='mmscalenet.SimpleFeaturePyramid', in_channels=[16], out_channels=16))
    return det_fields


def test_line_says_what_to_set(plain_fields, write_config, tool, capfd):
    config = write_config(plain_fields)
    line = refused(tool, capfd, 'train.py', config)
    assert 'of patches of 14 pixels SimpleFeaturePyramid makes maps of stride 3.5, 7, 14, 28, 56' in line
    options = re.findall(r'model\.\S+strides=\[[^]]*\]', line)
    assert [option.split('=')[0] for option in options] == [
        'model.rpn_head.anchor_generator.strides', 'model.roi_head.bbox_roi_extractor.featmap_strides',
        'model.roi_head.mask_roi_extractor.featmap_strides']
    tool('train.py', config, '--cfg-options', *(option.replace(' ', '') for option in options))


def test_one_stage_head(plain_fields, write_config, tool, capfd):
    """FCOS takes strides of its own, of as many maps as its neck makes."""
    plain_fields.update(_base_='mmdet::_base_/default_runtime.py', model=dict(
        type='FCOS',
        data_preprocessor=dict(type='DetDataPreprocessor'),
        backbone={key: value for key, value in plain_fields['model']['backbone'].items() if key != '_delete_'},
        neck=dict(type='mmscalenet.SimpleFeaturePyramid', in_channels=[16], out_channels=16),
        bbox_head=dict(type='FCOSHead', num_classes=2, in_channels=16, feat_channels=32, stacked_convs=1,
                       strides=[4, 8, 16, 32, 64])))
    config = write_config(plain_fields)
    line = refused(tool, capfd, 'train.py', config)
    assert line.endswith('Set model.bbox_head.strides=[3.5, 7, 14, 28, 56].')
    tool('train.py', config, '--no-validate', '--cfg-options', 'model.bbox_head.strides=[3.5,7,14,28,56]')


@pytest.fixture
def build(plain_fields, write_config):
    """Build the detector, with changes."""

    def build(**changed) -> nn.Module:
        cfg = Config.fromfile(write_config(plain_fields))
        cfg.merge_from_dict(dict(model=changed))
        init_default_scope('mmdet')
        return MODELS.build(cfg.model)

    return build


def test_detector_inside_another_model_and_more_behind_the_pyramid(build):
    """A teacher and its student; DyHead."""
    model = build()
    model.neck = nn.Sequential(model.neck, nn.Identity())
    with pytest.raises(UsageError, match=r'Set model\.student\.rpn_head\.anchor_generator\.strides=\[3\.5, 7, 14'):
        check_strides(nn.ModuleDict(dict(student=model)))


def test_what_is_right_or_not_known_passes(build):
    check_strides(build(backbone=dict(patch_size=16, img_size=64)))
    swin = dict(type='mmscalenet.ScaleNetSwin', scale=1, embed_dims=8, depths=[2, 2, 2], num_heads=[1, 1, 1],
                strides=(4, 2, 2), out_indices=(2, ), window_size=4, _delete_=True)
    check_strides(build(backbone=swin, neck=dict(in_channels=[32])))  # its one map has a stride of 16
