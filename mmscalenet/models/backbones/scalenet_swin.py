from mmscalenet.registry import MODELS

from ..layers import use_sdpa
from .scalenet import ScaleNet


@MODELS.register_module()
class ScaleNetSwin(ScaleNet):
    """Swin Transformer grown in depth inside each stage by sharing its blocks: ScaleNet, arXiv 2510.18431.

    Args:
        base (str, optional): The backbone to build on, e.g. 'mmpretrain.SwinTransformer'. Defaults to None: the
            SwinTransformer of the library whose config it is, or the one that takes all given arguments (mmpretrain's
            takes ``arch``, mmdet's and mmseg's take ``embed_dims``).
        sdpa (bool): Whether windows attend through :class:`mmscalenet.models.layers.WindowAttention`, which is
            equal to the parent's to 1e-5; for its speed see docs/results/benchmark_backbone.md. Defaults to True.
        **kwargs: Options of :func:`mmscalenet.expand` (``scale``, one number or one per stage, ``layer_map``,
            ``core``, ``depth``, ``adapter``, ``share``, ``gate``, ``inject``, ``unshare``, ``freeze``, ``with_cp``),
            and the parent's own arguments, which keep their meaning. ``out_indices`` counts stages.
            ``init_cfg=dict(type='Pretrained', checkpoint=...)`` takes any of the formats of
            :func:`mmscalenet.checkpoints.load_pretrained`.

    Inputs (B, 3, H, W), outputs one map (B, C * 2**i, H / (4 * 2**i), W / (4 * 2**i)) for every stage i of
    ``out_indices``.

    Raises:
        TypeError: If an argument is neither an option nor the parent's.
        ValueError: If a value is not allowed, or a layer map breaks the alternation of plain and shifted windows.
    """

    parents = {'mmpretrain': 'SwinTransformer', 'mmdet': 'SwinTransformer', 'mmseg': 'SwinTransformer'}

    def __init__(self, *, sdpa: bool = True, **kwargs) -> None:
        if not isinstance(sdpa, bool):
            raise ValueError(f'sdpa={sdpa!r} is not allowed; give True or False')
        self._sdpa = sdpa
        super().__init__(**kwargs)

    @classmethod
    def own_arguments(cls) -> tuple[str, ...]:
        return ('sdpa', )

    def before_expansion(self) -> None:
        if self._sdpa:
            use_sdpa(self)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args, **kwargs) -> None:
        """Takes files of earlier versions, also as part of a whole model, as mmpretrain's Swin does for its own class
        alone: their final norm is `norm`, and they keep masks."""
        if self._parts[1].__module__.startswith('mmpretrain.'):
            final = f'{prefix}norm{len(self.stages) - 1}.'
            for name in [name for name in state_dict if name.startswith(prefix)]:
                if name.startswith(f'{prefix}norm.'):
                    state_dict[final + name.removeprefix(f'{prefix}norm.')] = state_dict.pop(name)
                elif name.endswith('.attn_mask'):
                    del state_dict[name]
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
