# A real pretrained backbone, fine-tuned on single garments before photographs in bfloat16: 64 patches of 14 x 14. Its
# weights are written by tools/model_converters/dinov2_from_onnx.py.
_base_ = ['../_base_/datasets/fashion_crops.py', './_base_/schedule.py']

checkpoint = 'checkpoints/dinov2-small.pth'

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='mmscalenet.ScaleNetDeiT',
        scale=1,
        adapter=None,
        arch='dinov2-small',
        img_size=112,
        patch_size=14,
        in_channels=3,
        layer_scale_init_value=1e-5,
        init_cfg=dict(type='Pretrained', checkpoint=checkpoint)),
    neck=None,
    head=dict(
        type='VisionTransformerClsHead',
        num_classes=10,
        in_channels=384,
        loss=dict(type='CrossEntropyLoss')))

train_dataloader = dict(
    batch_size=32,
    dataset=dict(pipeline=[dict(type='mmscalenet.PasteOnPhotograph', size=112), dict(type='PackInputs')]),
    sampler=dict(type='InfiniteSampler', shuffle=True))

val_dataloader = dict(dataset=dict(
    indices=2000,
    pipeline=[dict(type='mmscalenet.PasteOnPhotograph', size=112, split='val'), dict(type='PackInputs')]))
val_evaluator = [dict(type='Accuracy', topk=(1, )), dict(type='mmscalenet.CrossEntropy')]
test_dataloader = val_dataloader
test_evaluator = val_evaluator

optim_wrapper = dict(type='AmpOptimWrapper', dtype='bfloat16', optimizer=dict(lr=1e-4))

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, by_epoch=False, begin=0, end=25),
    dict(type='LinearLR', start_factor=1., end_factor=1e-3, by_epoch=False, begin=425, end=500),
]

train_cfg = dict(max_iters=500, val_interval=250)

default_hooks = dict(checkpoint=dict(interval=175))
