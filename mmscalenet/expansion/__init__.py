"""The method alone: torch, mmcv's layers and mmengine, no task library."""
from .adapters import Adapter, LoRA, ParallelAdapter
from .container import PositionList
from .expand import expand
from .expanded import Expanded, layer_table, position_lists
from .layer_map import LAYER_MAPS, build_layer_map
from .position import Position

__all__ = [
    'LAYER_MAPS', 'Adapter', 'Expanded', 'LoRA', 'ParallelAdapter', 'Position', 'PositionList', 'build_layer_map',
    'expand', 'layer_table', 'position_lists'
]
