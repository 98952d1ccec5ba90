# The base: Mask R-CNN on Fashion scenes, its DeiT pretrained on garments on photographs.
# Expected: coco/bbox_mAP 31.0 +- 2
# Expected: coco/segm_mAP 31.7 +- 2
_base_ = [
    '../_base_/models/mask_rcnn_nano.py', '../_base_/datasets/fashion_scenes_coco.py',
    '../_base_/schedules/fashion_scenes_3e.py', 'mmdet::_base_/default_runtime.py'
]

custom_imports = dict(imports=['mmscalenet'], allow_failed_imports=False)

# what tools/train.py leaves of the pretraining, whose 4 x 4 position embeddings are resized
checkpoint = 'work_dirs/deit-nano_8e_fashion-crops/epoch_8.pth'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmscalenet.ScaleNetDeiT',
        scale=1,
        adapter=None,
        arch=dict(embed_dims=128, num_layers=6, num_heads=4, feedforward_channels=512),
        img_size=224,
        window_size=7,
        global_positions=2,
        with_cls_token=False,
        out_type='featmap',
        init_cfg=dict(type='Pretrained', checkpoint=checkpoint)),
    neck=dict(_delete_=True, type='mmscalenet.SimpleFeaturePyramid', in_channels=[128], out_channels=64))

default_hooks = dict(checkpoint=dict(max_keep_ckpts=1))
randomness = dict(seed=0)
