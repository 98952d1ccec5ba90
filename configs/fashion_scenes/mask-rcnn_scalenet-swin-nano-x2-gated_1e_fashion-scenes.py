# Starts as the trained detector exactly: gates on what is added are closed, and open at ten times the rate of weights.
# Expected: coco/bbox_mAP 42.1 +- 2
# Expected: coco/segm_mAP 46.0 +- 2
_base_ = './mask-rcnn_scalenet-swin-nano-x2_1e_fashion-scenes.py'

model = dict(backbone=dict(gate=0.))

optim_wrapper = dict(paramwise_cfg=dict(gate_lr_mult=10.))
