# 6 blocks of half the width: as deep as deit-micro, with a quarter more parameters than the one block of deit-single.
_base_ = './deit-single_32k_fashion-crops.py'

model = dict(
    backbone=dict(arch=dict(embed_dims=24, num_layers=6, num_heads=2, feedforward_channels=96)),
    head=dict(in_channels=24))
