# The base for 8 epochs, then grown to twice its depth, all at a constant learning rate that decays from epoch 9 on.
# Expected: accuracy/top1 84.55 +- 1
_base_ = [
    '../_base_/models/deit_mini.py',
    '../_base_/datasets/fashion_mnist.py',
    '../_base_/schedules/fashion_adamw.py',
    '../_base_/schedules/wsd_12e.py',
    '../_base_/default_runtime.py',
]

model = dict(backbone=dict(type='mmscalenet.ScaleNetDeiT', scale=2))

# the last five: the first of them is that of before the growth
default_hooks = dict(logger=dict(interval=20, ignore_last=False), checkpoint=dict(max_keep_ckpts=5))
randomness = dict(seed=0)
