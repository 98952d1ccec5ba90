# The base itself, trained on for the same extra epochs.
# Expected: accuracy/top1 85.76 +- 1
_base_ = './scalenet-swin-mini-x2_3e_fashion-mnist.py'

model = dict(backbone=dict(scale=1, adapter=None))
