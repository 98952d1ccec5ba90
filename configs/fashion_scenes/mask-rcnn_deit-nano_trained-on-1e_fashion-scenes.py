# The base itself, trained on for the same extra epochs: what growing has to beat.
# Expected: coco/bbox_mAP 31.9 +- 2
# Expected: coco/segm_mAP 31.7 +- 2
_base_ = './mask-rcnn_scalenet-deit-nano-x2_1e_fashion-scenes.py'

model = dict(backbone=dict(scale=1, adapter=None))
