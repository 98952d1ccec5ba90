from .window_attention import WindowAttention, use_sdpa
from .windowed_tokens import WindowedTokens

__all__ = ['WindowAttention', 'WindowedTokens', 'use_sdpa']
