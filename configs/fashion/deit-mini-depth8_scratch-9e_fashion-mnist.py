# The twin from scratch: 8 layers.
# Expected: accuracy/top1 82.05 +- 1
_base_ = './deit-mini_9e_fashion-mnist.py'

model = dict(backbone=dict(arch=dict(embed_dims=64, num_layers=8, num_heads=4, feedforward_channels=256)))
