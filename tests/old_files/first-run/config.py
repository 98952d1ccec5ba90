
default_scope = 'mmpretrain'
custom_imports = dict(imports=['mmscalenet'], allow_failed_imports=False)
randomness = dict(seed=0)
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(num_classes=2, to_rgb=True, mean=[127.] * 3, std=[60.] * 3),
    backbone=dict(type='mmscalenet.ScaleNetDeiT', scale=2, gate=0., img_size=16, patch_size=8,
                  arch=dict(embed_dims=8, num_layers=2, num_heads=2, feedforward_channels=16)),
    head=dict(type='VisionTransformerClsHead', num_classes=2, in_channels=8,
              loss=dict(type='CrossEntropyLoss', loss_weight=1.0)))
pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
train_dataloader = val_dataloader = test_dataloader = dict(
    batch_size=4, num_workers=0, persistent_workers=False, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='CustomDataset', data_root='images', pipeline=pipeline))
val_evaluator = test_evaluator = dict(type='Accuracy', topk=(1, ))
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=3e-2))
param_scheduler = dict(type='CosineAnnealingLR', by_epoch=True, T_max=3)
train_cfg = dict(by_epoch=True, max_epochs=3)
val_cfg, test_cfg = dict(), dict()
