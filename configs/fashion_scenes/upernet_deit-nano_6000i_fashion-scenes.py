# The base: UperNet on Fashion scenes, its DeiT pretrained on garments on photographs.
_base_ = [
    '../_base_/models/upernet_nano.py', '../_base_/datasets/fashion_scenes_semantic.py',
    '../_base_/schedules/fashion_scenes_6000i.py', '../_base_/segmentation_runtime.py'
]

# what tools/train.py leaves of the pretraining, whose 4 x 4 position embeddings are resized
checkpoint = 'work_dirs/deit-nano_8e_fashion-crops/epoch_8.pth'

model = dict(
    backbone=dict(
        type='mmscalenet.ScaleNetDeiT',
        scale=1,
        adapter=None,
        img_size=(224, 224),
        embed_dims=128,
        num_layers=6,
        num_heads=4,
        patch_bias=True,
        out_indices=(1, 2, 4, 5),
        final_norm=True,
        norm_cfg=dict(type='LN', eps=1e-6),
        init_cfg=dict(type='Pretrained', checkpoint=checkpoint)),
    neck=dict(type='MultiLevelNeck', in_channels=[128] * 4, out_channels=64, scales=[4, 2, 1, 0.5]),
    decode_head=dict(in_channels=[64] * 4),
    auxiliary_head=dict(in_channels=64, in_index=3))

default_hooks = dict(checkpoint=dict(interval=500, max_keep_ckpts=1))
randomness = dict(seed=0)
