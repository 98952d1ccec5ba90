from mmdet.datasets import CocoDataset

from mmscalenet.registry import DATASETS

from .classes import GARMENT_PALETTE, GARMENTS


@DATASETS.register_module()
class FashionScenesDataset(CocoDataset):
    """Fashion scenes for detection and instance segmentation: ten kinds of garments, crowds among them.

    Written by ``tools/dataset_converters/fashion_scenes.py``. Takes the arguments of mmdet's ``CocoDataset``.
    """
    METAINFO = dict(classes=GARMENTS, palette=list(GARMENT_PALETTE))
