# The twin from scratch: 24 layers, mmpretrain's recipe and its 300 epochs untouched.
_base_ = 'mmpretrain::deit/deit-tiny_4xb256_in1k.py'

model = dict(
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=192, num_layers=24, num_heads=3, feedforward_channels=768)))
