# Mask R-CNN with DeiT-S grown to twice its depth. The config that inherits it names the file to start from.
_base_ = 'mmdet::_base_/models/mask-rcnn_r50_fpn.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmscalenet.ScaleNetDeiT',
        arch='deit-small',
        scale=2,
        # Windows with four positions that see the whole image and the pyramid are ViTDet's, arXiv 2203.16527.
        window_size=14,
        global_positions=4,
        with_cls_token=False,
        out_type='featmap',
        drop_path_rate=0.1),
    neck=dict(_delete_=True, type='mmscalenet.SimpleFeaturePyramid', in_channels=[384]))
