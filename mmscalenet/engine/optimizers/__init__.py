from .cpu_amp import CPUAmpOptimWrapper
from .layer_decay import LayerDecayOptimWrapperConstructor
from .zero import GatheredZeroRedundancyOptimizer

__all__ = ['CPUAmpOptimWrapper', 'GatheredZeroRedundancyOptimizer', 'LayerDecayOptimWrapperConstructor']
