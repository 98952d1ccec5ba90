# Mask R-CNN with 64 channels and ten classes, for a CPU. The config that inherits it names backbone and neck.
_base_ = 'mmdet::_base_/models/mask-rcnn_r50_fpn.py'

channels = 64
model = dict(
    backbone=None,
    neck=dict(out_channels=channels),
    rpn_head=dict(in_channels=channels, feat_channels=channels),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=channels, roi_layer=dict(sampling_ratio=2)),
        bbox_head=dict(in_channels=channels, fc_out_channels=256, num_classes=10),
        mask_roi_extractor=dict(out_channels=channels, roi_layer=dict(sampling_ratio=2)),
        mask_head=dict(in_channels=channels, conv_out_channels=channels, num_classes=10)),
    # an image of 224 x 224 has a twentieth of the pixels of one of COCO
    train_cfg=dict(rpn_proposal=dict(nms_pre=500, max_per_img=300), rcnn=dict(sampler=dict(num=64))),
    test_cfg=dict(rpn=dict(nms_pre=500, max_per_img=300)))
