# DINOv2 ViT-S/14: patches of 14 pixels, so maps of other strides than mmdet's heads expect.
_base_ = '../mask_rcnn_scalenet_deit.py'

checkpoint = 'https://dl.fbaipublicfiles.com/dinov2/dinov2_vits14/dinov2_vits14_pretrain.pth'

strides = [3.5, 7, 14, 28, 56]
model = dict(
    backbone=dict(
        arch='dinov2-small',
        patch_size=14,
        img_size=518,  # of the position embeddings in the file
        layer_scale_init_value=1e-5,
        init_cfg=dict(checkpoint=checkpoint)),
    rpn_head=dict(anchor_generator=dict(strides=strides)),
    roi_head=dict(
        bbox_roi_extractor=dict(featmap_strides=strides[:4], finest_scale=49),
        mask_roi_extractor=dict(featmap_strides=strides[:4], finest_scale=49)))
