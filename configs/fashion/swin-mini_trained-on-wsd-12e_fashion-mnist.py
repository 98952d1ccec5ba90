# The same run without growth. The grown one forks from it: it goes on, with --resume, from epoch_8.pth of this one.
# Expected: accuracy/top1 87.82 +- 1
_base_ = './scalenet-swin-mini-x2_wsd-12e_fashion-mnist.py'

model = dict(backbone=dict(depth=6))

custom_hooks = []
