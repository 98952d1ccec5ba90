# The twin from scratch: 24 layers, mmpretrain's recipe and its 300 epochs untouched.
_base_ = 'mmpretrain::deit/deit-base_16xb64_in1k.py'

model = dict(
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=768, num_layers=24, num_heads=12, feedforward_channels=3072)))
