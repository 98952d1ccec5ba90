# DINOv2 ViT-S/14 by mmpretrain's ViT, as mmseg's has no layer scale; crops of 37 x 37 patches.
_base_ = '../upernet_scalenet_deit.py'

checkpoint = 'https://dl.fbaipublicfiles.com/dinov2/dinov2_vits14/dinov2_vits14_pretrain.pth'

crop_size = (518, 518)
_base_.train_dataloader.dataset.pipeline[3].crop_size = crop_size
model = dict(
    data_preprocessor=dict(size=crop_size, test_cfg=dict(size_divisor=14)),
    backbone=dict(
        _delete_=True,
        type='mmscalenet.ScaleNetDeiT',
        base='mmpretrain.VisionTransformer',
        scale=2,
        arch='dinov2-small',
        patch_size=14,
        img_size=518,
        layer_scale_init_value=1e-5,
        with_cls_token=False,
        out_type='featmap',
        out_indices=(2, 5, 8, 11),
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint=checkpoint)))
