# UperNet with DeiT-S grown to twice its depth, ADE20K, 160k iterations, 8 GPUs x 2 images.
_base_ = [
    './_base_/models/upernet.py', './_base_/datasets/ade20k.py', './_base_/schedules/segmentation_160k.py',
    './_base_/segmentation_runtime.py'
]

# Any file that mmscalenet.checkpoints reads may stand here.
checkpoint = 'https://download.openmmlab.com/mmclassification/v0/deit/deit-small_pt-4xb256_in1k_20220218-9425b9bb.pth'

model = dict(
    backbone=dict(
        type='mmscalenet.ScaleNetDeiT',
        scale=2,
        img_size=(512, 512),
        embed_dims=384,
        num_heads=6,
        patch_bias=True,  # DeiT has one
        out_indices=(2, 5, 8, 11),  # blocks: the taps sit at a quarter, half, three quarters and the end
        drop_path_rate=0.1,
        # As in mmseg's ViT the last tap alone is normalised: that of position 23, not those of 5, 11 and 17.
        final_norm=True,
        norm_cfg=dict(type='LN', eps=1e-6),
        init_cfg=dict(type='Pretrained', checkpoint=checkpoint)),
    neck=dict(type='MultiLevelNeck', in_channels=[384] * 4, out_channels=384, scales=[4, 2, 1, 0.5]),
    decode_head=dict(in_channels=[384] * 4),
    auxiliary_head=dict(in_channels=384, in_index=3))
