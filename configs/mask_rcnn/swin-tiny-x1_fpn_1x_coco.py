# The base with the same code: what growing has to beat.
_base_ = '../mask_rcnn_scalenet_swin.py'

model = dict(backbone=dict(scale=1, adapter=None))
