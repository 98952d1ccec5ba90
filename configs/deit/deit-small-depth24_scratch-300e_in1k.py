# The twin from scratch: 24 layers, mmpretrain's recipe and its 300 epochs untouched.
_base_ = 'mmpretrain::deit/deit-small_4xb256_in1k.py'

model = dict(
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=384, num_layers=24, num_heads=6, feedforward_channels=1536)))
