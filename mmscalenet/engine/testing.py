"""Options of tools/test.py that each task library wants said in its own way."""
import os
from copy import deepcopy

from mmengine.config import Config, ConfigDict
from mmengine.evaluator import DumpResults

from .cli import datasets, full_type
from .errors import UsageError
from .files import check_folder
from .metrics import DumpSegResults


def show_results(cfg: Config, folder: str) -> None:
    """Have every image that the first process tests drawn with its prediction into ``folder``, by mmseg into its
    ``vis_data/vis_image``."""
    hook_type, visualizer_type, switches = {
        'mmpretrain': ('VisualizationHook', 'UniversalVisualizer', dict(enable=True, interval=1, out_dir=folder)),
        'mmdet': ('DetVisualizationHook', 'DetLocalVisualizer', dict(draw=True, test_out_dir=folder)),
        'mmseg': ('SegVisualizationHook', 'SegLocalVisualizer', dict(draw=True, interval=1)),
    }[_scope(cfg, '--show-dir')]
    hooks = cfg.get('default_hooks') or {}
    if full_type(hooks.get('visualization') or {}).endswith('TrackVisualizationHook'):
        switches['frame_interval'] = 1
    cfg.default_hooks = dict(hooks, visualization=dict(hooks.get('visualization', dict(type=hook_type)), **switches))
    visualizer = cfg.get('visualizer') or ConfigDict(type=visualizer_type, name='visualizer')
    if cfg.default_scope == 'mmseg':  # its hook leaves the place to the visualizer
        visualizer.update(save_dir=folder, vis_backends=[dict(type='LocalVisBackend')])
    cfg.visualizer = visualizer


def use_tta(cfg: Config, shown: bool = False) -> None:
    """Wrap the model of ``cfg`` for test-time augmentation.

    Args:
        cfg (Config): The config, changed in place.
        shown (bool): Whether the images are to be drawn too. Defaults to False.

    Raises:
        UsageError: If the config does not say which augmentations, or the library cannot do it.
    """
    scope = _scope(cfg, '--tta')
    parts = [part for part in datasets(cfg, ['test']) if 'pipeline' in part]
    if scope == 'mmpretrain':
        if shown:
            raise UsageError('--show-dir does not go with --tta: mmpretrain draws single images only. '
                             'Run the test twice.')
        if full_type(cfg.model.get('head') or {}).endswith('MultiTaskHead'):
            raise UsageError('--tta: mmpretrain averages the scores of one task only, and this model has several.')
        flips = [dict(type='RandomFlip', prob=1., direction='horizontal'), dict(type='RandomFlip', prob=0.)]
        *transforms, pack = deepcopy(parts[0].pipeline)
        cfg.setdefault('tta_model', dict(type='AverageClsScoreTTA'))
        cfg.setdefault('tta_pipeline', [*transforms, dict(type='TestTimeAug', transforms=[flips, [pack]])])
    for name in ('tta_model', 'tta_pipeline'):
        if name not in cfg:
            raise UsageError(f'--tta needs "{name}" in the config, and it is not there. {scope} has examples: look '
                             'for tta_pipeline in its configs/_base_.')
    held = 'detector' in cfg.model  # by SoftTeacher
    if ((cfg.model.detector if held else cfg.model).get('roi_head') or {}).get('mask_head'):
        raise UsageError('--tta: mmdet merges boxes only, and this model predicts masks. For the boxes alone add '
                         f'--cfg-options model.{"detector." * held}roi_head.mask_head=None test_evaluator.metric=bbox')
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)
    for part in parts:
        part.pipeline = cfg.tta_pipeline


def check_results(path: str) -> None:
    """See, before the test, that the predictions can be written to ``path``.

    Raises:
        UsageError: If they cannot.
    """
    if not path.endswith(('.pkl', '.pickle')):
        raise UsageError(f'--out "{path}": the name must end in .pkl or .pickle.')
    if os.path.isdir(path):
        raise UsageError(f'--out "{path}" is a folder: name a file.')
    check_folder(os.path.dirname(path) or '.', 'folder', '--out')


def results_dumper(cfg: Config, path: str) -> DumpResults:
    """The metric that writes the predictions to ``path``, compact where the task library's are large."""
    scope = cfg.get('default_scope')
    if scope == 'mmdet':
        from mmdet.evaluation import DumpDetResults  # masks as RLE
        return DumpDetResults(out_file_path=path)
    return (DumpSegResults if scope == 'mmseg' else DumpResults)(out_file_path=path)


def _scope(cfg: Config, option: str) -> str:
    scope = cfg.get('default_scope')
    if scope not in ('mmpretrain', 'mmdet', 'mmseg'):
        raise UsageError(f'{option} needs default_scope "mmpretrain", "mmdet" or "mmseg" in the config, '
                         f'and it is "{scope}".')
    return scope
