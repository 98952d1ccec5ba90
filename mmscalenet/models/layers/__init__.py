from .window_attention import WindowAttention, use_sdpa
from .windowed_tokens import WindowedTokens, note_grid, set_grid

__all__ = ['WindowAttention', 'WindowedTokens', 'note_grid', 'set_grid', 'use_sdpa']
