# The base itself, trained on for the same extra epochs.
# Expected: accuracy/top1 83.55 +- 1
_base_ = './scalenet-deit-mini-x2_3e_fashion-mnist.py'

model = dict(backbone=dict(scale=1, adapter=None))
