# The base: UperNet on Fashion scenes, its Swin pretrained on garments on photographs.
# Expected: mIoU 38.89 +- 2
_base_ = [
    '../_base_/models/upernet_nano.py', '../_base_/datasets/fashion_scenes_semantic.py',
    '../_base_/schedules/fashion_scenes_6000i.py', '../_base_/segmentation_runtime.py'
]

# what tools/train.py leaves of the pretraining, whose windows of 4 x 4 are resized
checkpoint = 'work_dirs/swin-nano_8e_fashion-crops/epoch_8.pth'

model = dict(
    backbone=dict(
        type='mmscalenet.ScaleNetSwin',
        scale=1,
        adapter=None,
        embed_dims=32,
        depths=[2, 2, 2, 2],
        num_heads=[1, 2, 4, 8],
        window_size=7,
        drop_path_rate=0.,
        init_cfg=dict(type='Pretrained', checkpoint=checkpoint)),
    decode_head=dict(in_channels=[32, 64, 128, 256]),
    auxiliary_head=dict(in_channels=128))

default_hooks = dict(checkpoint=dict(interval=500, max_keep_ckpts=1))
randomness = dict(seed=0)
