_base_ = 'mmpretrain::deit/deit-base_16xb64_in1k.py'

custom_imports = dict(imports=['mmscalenet'], allow_failed_imports=False)

# DeiT-B of mmpretrain's zoo, 81.76 top-1. Any classifier that mmscalenet.checkpoints reads may stand here.
checkpoint = 'https://download.openmmlab.com/mmclassification/v0/deit/deit-base_pt-16xb64_in1k_20220216-db63c16c.pth'

model = dict(
    backbone=dict(
        type='mmscalenet.ScaleNetDeiT', scale=2, init_cfg=dict(type='Pretrained', checkpoint=checkpoint)),
    # Ours: the paper does not say whether the classifier is taken over with the backbone.
    head=dict(init_cfg=dict(type='mmscalenet.PretrainedHead', checkpoint=checkpoint)))

# 100 epochs are the paper's. Ours: all else, as its recipe is unknown, is that of the base's own 300 epochs, the 20
# epochs of warm-up, the learning rate and the augmentation included; the cosine ends with the 100th epoch.
train_cfg = dict(max_epochs=100)
