# The base of the study with 2 blocks in the place of 6.
_base_ = './deit-micro_8k_fashion-mnist.py'

model = dict(backbone=dict(arch=dict(num_layers=2)))
