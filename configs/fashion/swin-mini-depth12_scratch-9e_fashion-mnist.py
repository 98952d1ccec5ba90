# The twin from scratch: twice the depth in every stage.
_base_ = './swin-mini_9e_fashion-mnist.py'

model = dict(backbone=dict(arch=dict(embed_dims=32, depths=[4, 8], num_heads=[2, 4])))
