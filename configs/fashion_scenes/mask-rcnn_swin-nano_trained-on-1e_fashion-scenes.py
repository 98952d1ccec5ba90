# The base itself, trained on for the same extra epochs: what growing has to beat.
# Expected: coco/bbox_mAP 41.6 +- 2
# Expected: coco/segm_mAP 46.0 +- 2
_base_ = './mask-rcnn_scalenet-swin-nano-x2_1e_fashion-scenes.py'

model = dict(backbone=dict(scale=1, adapter=None))
