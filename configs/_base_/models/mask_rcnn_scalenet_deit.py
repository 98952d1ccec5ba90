# Mask R-CNN with DeiT-S grown to twice its depth.
_base_ = 'mmdet::_base_/models/mask-rcnn_r50_fpn.py'

# Any file that mmscalenet.checkpoints reads may stand here.
checkpoint = 'https://download.openmmlab.com/mmclassification/v0/deit/deit-small_pt-4xb256_in1k_20220218-9425b9bb.pth'

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
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint=checkpoint)),
    neck=dict(_delete_=True, type='mmscalenet.SimpleFeaturePyramid', in_channels=[384]))
