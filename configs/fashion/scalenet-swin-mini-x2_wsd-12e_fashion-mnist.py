# The base for 8 epochs, then grown to twice its depth, all at a constant learning rate that decays from epoch 9 on.
# Expected: accuracy/top1 87.60 +- 1
_base_ = [
    '../_base_/models/swin_mini.py',
    '../_base_/datasets/fashion_mnist.py',
    '../_base_/schedules/fashion_adamw.py',
    '../_base_/schedules/wsd_12e.py',
    '../_base_/default_runtime.py',
]

model = dict(backbone=dict(type='mmscalenet.ScaleNetSwin', scale=2))

# the last five: the first of them is that of before the growth
default_hooks = dict(logger=dict(interval=20, ignore_last=False), checkpoint=dict(max_keep_ckpts=5))
randomness = dict(seed=0)
