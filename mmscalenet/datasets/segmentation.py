from mmseg.datasets import BaseSegDataset

from mmscalenet.registry import DATASETS

from .classes import GARMENT_PALETTE, GARMENTS, STUFF, STUFF_PALETTE


@DATASETS.register_module()
class FashionScenesSegDataset(BaseSegDataset):
    """Fashion scenes for semantic segmentation: ten kinds of garments, then seven backgrounds.

    Written by ``tools/dataset_converters/fashion_scenes.py``. Takes the arguments of mmseg's ``BaseSegDataset``; as in
    ADE20K, 0 in the maps is no class and ignored.
    """
    METAINFO = dict(classes=(*GARMENTS, *STUFF), palette=[list(colour) for colour in GARMENT_PALETTE + STUFF_PALETTE])

    def __init__(self, reduce_zero_label: bool = True, **kwargs) -> None:
        super().__init__(reduce_zero_label=reduce_zero_label, **kwargs)
