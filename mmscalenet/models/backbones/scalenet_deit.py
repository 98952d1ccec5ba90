from mmscalenet.registry import MODELS

from .scalenet import ScaleNet


@MODELS.register_module()
class ScaleNetDeiT(ScaleNet):
    """DeiT or ViT grown in depth by sharing its layers: ScaleNet, arXiv 2510.18431.

    Args:
        base (str, optional): The backbone to build on, e.g. 'mmpretrain.DistilledVisionTransformer'. Defaults to None:
            the VisionTransformer of the library whose config it is, or the one that takes all given arguments
            (mmpretrain's takes ``arch``, mmseg's takes ``embed_dims``).
        **kwargs: Options of :func:`mmscalenet.expand` (``scale``, ``layer_map``, ``adapter``, ``share``, ``gate``,
            ``unshare``, ``freeze``, ``with_cp``), and the parent's own arguments, which keep their meaning.
            ``out_indices`` counts blocks, from the end if negative. ``init_cfg=dict(type='Pretrained',
            checkpoint=...)`` takes any of the formats of :func:`mmscalenet.checkpoints.load_pretrained`.

    Inputs (B, 3, H, W) of any size, outputs as the parent's: with mmpretrain and ``out_type='cls_token'`` a tuple of
    (B, C), with 'featmap' or mmseg a tuple of (B, C, H / patch, W / patch), one for every entry of ``out_indices``.

    Raises:
        TypeError: If an argument is neither an option nor the parent's.
        ValueError: If a value is not allowed; the message says what is.

    Example:
        >>> backbone = ScaleNetDeiT(arch='deit-tiny', scale=2)
        >>> print(backbone.layer_table())
    """

    parents = {'mmpretrain': 'VisionTransformer', 'mmseg': 'VisionTransformer'}
