_base_ = 'mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_ms-crop-3x_coco.py'

custom_imports = dict(imports=['mmscalenet'], allow_failed_imports=False)

# Any file that mmscalenet.checkpoints reads may stand here.
checkpoint = 'https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_tiny_patch4_window7_224.pth'

model = dict(
    backbone=dict(type='mmscalenet.ScaleNetSwin', scale=2, init_cfg=dict(type='Pretrained', checkpoint=checkpoint)))
