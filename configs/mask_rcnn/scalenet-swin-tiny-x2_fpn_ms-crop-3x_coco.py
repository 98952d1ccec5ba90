_base_ = 'mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_ms-crop-3x_coco.py'

custom_imports = dict(imports=['mmscalenet'], allow_failed_imports=False)

model = dict(backbone=dict(type='mmscalenet.ScaleNetSwin', scale=2))
