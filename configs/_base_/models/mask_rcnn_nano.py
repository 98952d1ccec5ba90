# Mask R-CNN with 64 channels and ten classes, for a CPU. The config that inherits it names backbone and neck.
_base_ = 'mmdet::_base_/models/mask-rcnn_r50_fpn.py'

channels = 64
model = dict(
    backbone=None,
    neck=dict(out_channels=channels),
    rpn_head=dict(in_channels=channels, feat_channels=channels),
    roi_head=dict(
        # from 56 pixels on, not from 112, an object is read from coarser maps: seven bins of one or two of their cells
        bbox_roi_extractor=dict(out_channels=channels, finest_scale=28, roi_layer=dict(sampling_ratio=1)),
        # boxes and masks regardless of the class: the few garments of a batch teach one of each sooner than ten
        bbox_head=dict(in_channels=channels, fc_out_channels=256, num_classes=10, reg_class_agnostic=True),
        mask_roi_extractor=dict(out_channels=channels, roi_layer=dict(sampling_ratio=1)),
        mask_head=dict(in_channels=channels, conv_out_channels=channels, num_classes=10, class_agnostic=True)),
    # an image of 224 x 224 has a twentieth of the pixels of one of COCO
    train_cfg=dict(rpn_proposal=dict(nms_pre=200, max_per_img=100), rcnn=dict(sampler=dict(num=64))),
    test_cfg=dict(rpn=dict(nms_pre=200, max_per_img=100)))
