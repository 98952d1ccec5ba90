from .window_attention import WindowAttention, use_sdpa

__all__ = ['WindowAttention', 'use_sdpa']
