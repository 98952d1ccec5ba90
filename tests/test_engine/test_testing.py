"""Options of tools/test.py as they change the config."""
import pytest
from mmengine.config import Config

from mmscalenet.engine import UsageError
from mmscalenet.engine.testing import show_results, use_tta


@pytest.mark.parametrize('scope', ['mmpretrain', 'mmseg'])
def test_tta_reaches_every_part_of_a_concatenated_data_set(scope):
    part = dict(type='CustomDataset', pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')])
    cfg = Config(dict(
        default_scope=scope, model=dict(type='ImageClassifier'), tta_model=dict(type='AverageClsScoreTTA'),
        test_dataloader=dict(dataset=dict(
            type='ConcatDataset', datasets=[part, dict(type='RepeatDataset', dataset=part)])),
        **(dict(tta_pipeline=[dict(type='TestTimeAug')]) if scope == 'mmseg' else {})))
    use_tta(cfg)
    first, second = cfg.test_dataloader.dataset.datasets
    assert 'pipeline' not in cfg.test_dataloader.dataset and 'pipeline' not in second
    assert first.pipeline == second.dataset.pipeline == cfg.tta_pipeline
    assert cfg.tta_pipeline[-1].type == 'TestTimeAug'


@pytest.mark.parametrize('held, option', [(False, 'model.roi_head'), (True, 'model.detector.roi_head')])
def test_masks_cannot_be_merged(held, option):
    """Also those of a detector that another model holds, as SoftTeacher does."""
    detector = dict(type='MaskRCNN', roi_head=dict(mask_head=dict(type='FCNMaskHead')))
    cfg = Config(dict(
        default_scope='mmdet', model=dict(type='SoftTeacher', detector=detector) if held else detector,
        test_dataloader=dict(dataset=dict(type='CocoDataset', pipeline=[])),
        tta_model=dict(type='DetTTAModel'), tta_pipeline=[]))
    with pytest.raises(UsageError, match=f'merges boxes only.* {option}.mask_head=None'):
        use_tta(cfg)
    (cfg.model.detector if held else cfg.model).roi_head.mask_head = None
    use_tta(cfg)
    assert cfg.model.type == 'DetTTAModel'


def test_scores_of_several_tasks_cannot_be_averaged():
    cfg = Config(dict(
        default_scope='mmpretrain', model=dict(type='ImageClassifier', head=dict(type='MultiTaskHead')),
        test_dataloader=dict(dataset=dict(type='MultiTaskDataset', pipeline=[dict(type='PackMultiTaskInputs')]))))
    with pytest.raises(UsageError, match='scores of one task only'):
        use_tta(cfg)


def test_every_frame_of_a_tracker_is_drawn():
    cfg = Config(dict(default_scope='mmdet', model=dict(type='QDTrack'),
                      default_hooks=dict(visualization=dict(type='TrackVisualizationHook', draw=False))))
    show_results(cfg, 'folder')
    assert cfg.default_hooks.visualization == dict(
        type='TrackVisualizationHook', draw=True, test_out_dir='folder', frame_interval=1)
