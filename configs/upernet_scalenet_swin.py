# UperNet with Swin-T grown to twice its depth, ADE20K, 160k iterations, 8 GPUs x 2 images.
_base_ = [
    './_base_/models/upernet.py', './_base_/datasets/ade20k.py', './_base_/schedules/segmentation_160k.py',
    './_base_/segmentation_runtime.py'
]

# Any file that mmscalenet.checkpoints reads may stand here.
checkpoint = 'https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_tiny_patch4_window7_224.pth'

model = dict(
    backbone=dict(
        type='mmscalenet.ScaleNetSwin',
        scale=2,
        embed_dims=96,
        depths=[2, 2, 6, 2],
        num_heads=[3, 6, 12, 24],
        window_size=7,
        drop_path_rate=0.3,
        init_cfg=dict(type='Pretrained', checkpoint=checkpoint)),
    decode_head=dict(in_channels=[96, 192, 384, 768]),
    auxiliary_head=dict(in_channels=384))
