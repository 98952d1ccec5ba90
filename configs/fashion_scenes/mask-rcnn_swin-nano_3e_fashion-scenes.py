# The base: Mask R-CNN on Fashion scenes, its Swin pretrained on garments on photographs.
# Expected: coco/bbox_mAP 40.5 +- 2
# Expected: coco/segm_mAP 43.2 +- 2
_base_ = [
    '../_base_/models/mask_rcnn_nano.py', '../_base_/datasets/fashion_scenes_coco.py',
    '../_base_/schedules/fashion_scenes_3e.py', 'mmdet::_base_/default_runtime.py'
]

custom_imports = dict(imports=['mmscalenet'], allow_failed_imports=False)

# what tools/train.py leaves of the pretraining, whose windows of 4 x 4 are resized
checkpoint = 'work_dirs/swin-nano_8e_fashion-crops/epoch_8.pth'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmscalenet.ScaleNetSwin',
        scale=1,
        adapter=None,
        embed_dims=32,
        depths=[2, 2, 2, 2],
        num_heads=[1, 2, 4, 8],
        window_size=7,
        drop_path_rate=0.,
        init_cfg=dict(type='Pretrained', checkpoint=checkpoint)),
    neck=dict(in_channels=[32, 64, 128, 256]))

default_hooks = dict(checkpoint=dict(max_keep_ckpts=1))
randomness = dict(seed=0)
