# The twin from scratch: twice the depth in every stage.
# Expected: accuracy/top1 85.77 +- 1
_base_ = './swin-mini_9e_fashion-mnist.py'

model = dict(backbone=dict(arch=dict(embed_dims=32, depths=[4, 8], num_heads=[2, 4])))
