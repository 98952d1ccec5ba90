_base_ = './scalenet-deit-small-x2_sfp_ms-poly-3x_coco.py'

checkpoint = 'https://download.openmmlab.com/mmclassification/v0/deit/deit-base_pt-16xb64_in1k_20220216-db63c16c.pth'

model = dict(
    backbone=dict(arch='deit-base', init_cfg=dict(checkpoint=checkpoint)), neck=dict(in_channels=[768]))
