_base_ = 'mmpretrain::swin_transformer/swin-base_16xb64_in1k.py'

custom_imports = dict(imports=['mmscalenet'], allow_failed_imports=False)

# Swin-B of mmpretrain's zoo, 83.36 top-1. Any classifier that mmscalenet.checkpoints reads may stand here.
checkpoint = 'https://download.openmmlab.com/mmclassification/v0/swin-transformer/swin_base_224_b16x64_300e_imagenet_20210616_190742-93230b0d.pth'  # noqa: E501

model = dict(
    backbone=dict(
        type='mmscalenet.ScaleNetSwin', scale=2, init_cfg=dict(type='Pretrained', checkpoint=checkpoint)),
    # Ours: the paper does not say whether the classifier is taken over with the backbone.
    head=dict(init_cfg=dict(_delete_=True, type='mmscalenet.PretrainedHead', checkpoint=checkpoint)))

# 100 epochs are the paper's. Ours: all else, as its recipe is unknown, is that of the base's own 300 epochs, the 20
# epochs of warm-up, the learning rate and the augmentation included; the cosine ends with the 100th epoch.
train_cfg = dict(max_epochs=100)
