_base_ = '../upernet_scalenet_deit.py'

checkpoint = 'https://download.openmmlab.com/mmclassification/v0/deit/deit-base_pt-16xb64_in1k_20220216-db63c16c.pth'

model = dict(
    backbone=dict(embed_dims=768, num_heads=12, init_cfg=dict(checkpoint=checkpoint)),
    neck=dict(in_channels=[768] * 4, out_channels=768),
    decode_head=dict(in_channels=[768] * 4),
    auxiliary_head=dict(in_channels=768))
