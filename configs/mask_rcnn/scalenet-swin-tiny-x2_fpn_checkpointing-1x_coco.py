# Every position is computed again in the backward pass: less memory, about a third more time for the backbone.
_base_ = '../mask_rcnn_scalenet_swin.py'

model = dict(backbone=dict(with_cp=True))
