# The base itself, trained on for the same extra epochs: what growing has to beat.
_base_ = './mask-rcnn_scalenet-deit-nano-x2_1e_fashion-scenes.py'

model = dict(backbone=dict(scale=1, adapter=None))
