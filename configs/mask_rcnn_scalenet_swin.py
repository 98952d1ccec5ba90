# Mask R-CNN with Swin-T grown to twice its depth, COCO, 12 epochs, 8 GPUs x 2 images.
_base_ = 'mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py'

custom_imports = dict(imports=['mmscalenet'], allow_failed_imports=False)

model = dict(backbone=dict(type='mmscalenet.ScaleNetSwin', scale=2))
