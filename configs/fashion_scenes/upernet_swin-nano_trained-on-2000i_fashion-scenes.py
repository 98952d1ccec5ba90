# The base itself, trained on for the same extra iterations: what growing has to beat.
# Expected: mIoU 41.03 +- 2
_base_ = './upernet_scalenet-swin-nano-x2_2000i_fashion-scenes.py'

model = dict(backbone=dict(scale=1, adapter=None))
