# Starts as the trained detector exactly: gates on what is added are closed, and open at ten times the rate of weights.
# Expected: coco/bbox_mAP 32.9 +- 2
# Expected: coco/segm_mAP 32.9 +- 2
_base_ = './mask-rcnn_scalenet-deit-nano-x2_1e_fashion-scenes.py'

# all uses of the blocks that are global in the base
model = dict(backbone=dict(gate=0., global_positions=[2, 5, 8, 11]))

optim_wrapper = dict(paramwise_cfg=dict(gate_lr_mult=10.))
