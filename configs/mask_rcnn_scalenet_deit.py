# Mask R-CNN with DeiT-S grown to twice its depth, COCO, 12 epochs, 8 GPUs x 2 images.
_base_ = [
    './_base_/models/mask_rcnn_scalenet_deit.py', 'mmdet::_base_/datasets/coco_instance.py',
    'mmdet::_base_/schedules/schedule_1x.py', 'mmdet::_base_/default_runtime.py'
]

custom_imports = dict(imports=['mmscalenet'], allow_failed_imports=False)

# Any file that mmscalenet.checkpoints reads may stand here.
checkpoint = 'https://download.openmmlab.com/mmclassification/v0/deit/deit-small_pt-4xb256_in1k_20220218-9425b9bb.pth'

model = dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint=checkpoint)))

# Rates that shrink towards the stem, as plain transformers need them; ours: 0.8 for the small model.
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    constructor='mmscalenet.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.8))
