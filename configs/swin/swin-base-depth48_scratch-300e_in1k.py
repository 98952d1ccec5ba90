# The twin from scratch: twice the depth in every stage, mmpretrain's recipe and its 300 epochs untouched.
_base_ = 'mmpretrain::swin_transformer/swin-base_16xb64_in1k.py'

model = dict(
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=128, depths=[4, 4, 36, 4], num_heads=[4, 8, 16, 32])))
