"""Data samples as pictures."""
import itertools
from collections.abc import Mapping

import numpy as np
from mmengine.config import Config
from mmengine.registry import VISUALIZERS, init_default_scope
from mmengine.structures import BaseDataElement

from mmscalenet.engine import UsageError, library_of

VISUALIZER = {
    'mmpretrain': dict(type='UniversalVisualizer'),
    'mmdet': dict(type='DetLocalVisualizer'),
    'mmseg': dict(type='SegLocalVisualizer', alpha=0.5),  # its default of 0.8 hides the image
}
#: Shorter side of a picture of mmpretrain at least: its text has a size of its own.
READABLE = 224


def enter_scope(cfg: Config) -> str:
    """Has registries look into the library that a config belongs to, and returns its name.

    Raises:
        ValueError: If that is not mmpretrain, mmdet or mmseg.
    """
    scope = library_of(cfg)
    if scope not in VISUALIZER:
        raise ValueError(f'default_scope of the config is "{scope}"; allowed are {", ".join(VISUALIZER)}.')
    init_default_scope(scope)
    return scope


_NUMBERS = itertools.count()


class Drawer:
    """Draws annotations or predictions with the visualizer of a config's library.

    Args:
        cfg (Config): The config; its ``visualizer`` is used, except for where it stores pictures.
        meta (Mapping): ``classes`` and ``palette`` of the data set. Either may be missing.

    Raises:
        ValueError: If the config is not of mmpretrain, mmdet or mmseg.
        UsageError: If it is of mmseg and there are no classes.
    """

    def __init__(self, cfg: Config, meta: Mapping) -> None:
        self.scope = enter_scope(cfg)
        options = VISUALIZER[self.scope] | dict(cfg.get('visualizer') or {})
        # by a known name mmengine gives the visualizer that has it, whatever the classes
        name = f'drawer {next(_NUMBERS)}'
        self.visualizer = VISUALIZERS.build(options | dict(name=name, vis_backends=None, save_dir=None))
        classes, palette = meta.get('classes'), meta.get('palette')
        if self.scope == 'mmseg' and not classes:
            raise UsageError("the data set names no classes, which are wanted for their colours: give it metainfo=dict("
                             "classes=('background', ...)).")
        if self.scope == 'mmseg' and not palette:
            palette = np.random.default_rng(0).integers(256, size=(len(classes), 3)).tolist()
        self.visualizer.dataset_meta = dict(classes=classes, palette=palette)

    def __call__(self, image: np.ndarray, sample: BaseDataElement, truth: bool = False,
                 score_thr: float = 0.3) -> np.ndarray:
        """Draws one image.

        Args:
            image (np.ndarray): RGB (H, W, 3), or one channel (H, W) or (H, W, 1), with values from 0 to 255.
            sample (BaseDataElement): Its annotations or predictions, at the size of the image.
            truth (bool): Whether to draw the annotations and not the predictions. Defaults to False.
            score_thr (float): Detections with a lower score are left out. Defaults to 0.3.

        Returns:
            np.ndarray: The picture, RGB.
        """
        image = np.atleast_3d(image).clip(0, 255).astype(np.uint8)
        image = np.ascontiguousarray(np.broadcast_to(image, (*image.shape[:2], 3)))
        which = dict(draw_gt=truth, draw_pred=not truth)
        if self.scope == 'mmpretrain':
            return self.visualizer.visualize_cls(image, sample, resize=max(READABLE, min(image.shape[:2])), **which)
        self.visualizer.set_image(image)  # mmseg leaves it to us where there is nothing to draw
        if self.scope == 'mmdet':
            which['pred_score_thr'] = score_thr
        self.visualizer.add_datasample('', image, sample, **which)
        return self.visualizer.get_image()
