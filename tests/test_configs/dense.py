"""Detectors and segmentors of the configs at reduced size, and random batches for them."""
import torch
from mmdet.testing import demo_mm_inputs
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

SHRINK = 8
SIZE = (64, 96)
#: Widths of the heads that have nothing to do with the backbone -> at reduced size.
HEAD_WIDTHS = {256: 16, 512: 16, 1024: 32}
HEAD_KEYS = ('out_channels', 'in_channels', 'feat_channels', 'conv_out_channels', 'fc_out_channels', 'channels')


def _narrow_heads(config: dict) -> None:
    for key, value in config.items():
        if key in HEAD_KEYS and isinstance(value, int) and value in HEAD_WIDTHS:
            config[key] = HEAD_WIDTHS[value]
        for part in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(part, dict):
                _narrow_heads(part)


def _narrow_backbone(backbone: dict) -> None:
    """An eighth of the width on a small image; depth, layer map and all else as in the config."""
    if 'arch' in backbone:
        heads = dict(small=6, base=12)[backbone.arch.rpartition('-')[2]]
        backbone.arch = dict(embed_dims=heads * SHRINK, num_layers=12, num_heads=heads,
                             feedforward_channels=heads * SHRINK)
    else:
        backbone.embed_dims //= SHRINK
    if 'img_size' in backbone:
        backbone.img_size = 64
    if backbone.get('global_positions'):
        backbone.window_size = 3  # tokens, so that an image of SIZE has several windows, the last ones padded
    backbone.drop_path_rate = 0.  # every branch takes part in every step


def _shrunk(channels: list | int) -> list | int:
    return [c // SHRINK for c in channels] if isinstance(channels, (list, tuple)) else channels // SHRINK


def reduce_detector(model: dict) -> None:
    neck_in = _shrunk(model.neck.in_channels)
    _narrow_backbone(model.backbone)
    _narrow_heads(model)
    model.neck.in_channels = neck_in
    model.neck.out_channels = 16  # the simple feature pyramid takes it from its default
    model.train_cfg.rpn_proposal.update(nms_pre=50, max_per_img=20)
    model.train_cfg.rcnn.sampler.num = 16


def reduce_segmentor(model: dict) -> None:
    channels = [_shrunk(part.in_channels) for part in (model.decode_head, model.auxiliary_head)]
    neck = model.get('neck')
    neck_channels = neck and (_shrunk(neck.in_channels), _shrunk(neck.out_channels))
    _narrow_backbone(model.backbone)
    _narrow_heads(model)
    model.decode_head.in_channels, model.auxiliary_head.in_channels = channels
    if neck:
        neck.in_channels, neck.out_channels = neck_channels
    model.data_preprocessor.size = SIZE
    for head in (model.decode_head, model.auxiliary_head):
        head.norm_cfg.type = 'BN'


def detection_batch(model: dict) -> dict:
    classes = model.roi_head.bbox_head.num_classes
    return demo_mm_inputs(2, [[3, *SIZE]] * 2, num_items=[3, 2], num_classes=classes, with_mask=True)


def segmentation_batch(model: dict) -> dict:
    samples = [SegDataSample(metainfo=dict(img_shape=SIZE, ori_shape=SIZE)) for _ in range(2)]
    for sample in samples:
        sample.gt_sem_seg = PixelData(data=torch.randint(0, model.decode_head.num_classes, (1, *SIZE)))
    return dict(inputs=[torch.randint(0, 256, (3, *SIZE), dtype=torch.uint8) for _ in samples], data_samples=samples)
