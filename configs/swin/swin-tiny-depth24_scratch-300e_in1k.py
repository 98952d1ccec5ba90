# The twin from scratch: twice the depth in every stage, mmpretrain's recipe and its 300 epochs untouched.
_base_ = 'mmpretrain::swin_transformer/swin-tiny_16xb64_in1k.py'

model = dict(
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=96, depths=[4, 4, 12, 4], num_heads=[3, 6, 12, 24])))
