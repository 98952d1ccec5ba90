# Sides of 640 to 800 and 36 epochs, as 12 of the data set three times.
_base_ = ['../_base_/models/mask_rcnn_scalenet_deit.py', 'mmdet::common/ms-poly_3x_coco-instance.py']

custom_imports = dict(imports=['mmscalenet'], allow_failed_imports=False)

# Any file that mmscalenet.checkpoints reads may stand here.
checkpoint = 'https://download.openmmlab.com/mmclassification/v0/deit/deit-small_pt-4xb256_in1k_20220218-9425b9bb.pth'

model = dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint=checkpoint)))

optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    constructor='mmscalenet.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.8))
