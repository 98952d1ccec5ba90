_base_ = 'mmpretrain::deit/deit-small_4xb256_in1k.py'

custom_imports = dict(imports=['mmscalenet'], allow_failed_imports=False)

# DeiT-S of mmpretrain's zoo, 80.69 top-1. Any classifier that mmscalenet.checkpoints reads may stand here.
checkpoint = 'https://download.openmmlab.com/mmclassification/v0/deit/deit-small_pt-4xb256_in1k_20220218-9425b9bb.pth'

model = dict(
    backbone=dict(
        type='mmscalenet.ScaleNetDeiT', scale=2, init_cfg=dict(type='Pretrained', checkpoint=checkpoint)),
    # Ours: the paper does not say whether the classifier is taken over with the backbone.
    head=dict(init_cfg=dict(type='mmscalenet.PretrainedHead', checkpoint=checkpoint)))

# 100 epochs are the paper's. Ours: all else, as its recipe is unknown, is that of the base's own 300 epochs, the 20
# epochs of warm-up, the learning rate and the augmentation included; the cosine ends with the 100th epoch.
train_cfg = dict(max_epochs=100)
