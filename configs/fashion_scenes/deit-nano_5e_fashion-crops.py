# The backbone of the DeiT detectors and segmentors of this folder, pretrained on single garments before photographs.
_base_ = [
    '../_base_/models/deit_mini.py',
    '../_base_/datasets/fashion_crops.py',
    '../_base_/schedules/fashion_crops_5e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(
        arch=dict(embed_dims=128, num_layers=6, feedforward_channels=512),
        img_size=112,  # 7 x 7 patches: one window of the detector
        patch_size=16,
        in_channels=3),
    head=dict(in_channels=128))

train_dataloader = dict(
    dataset=dict(pipeline=[
        dict(type='mmscalenet.PasteOnPhotograph', size=112),
        dict(type='PackInputs'),
    ]))
val_dataloader = dict(
    dataset=dict(pipeline=[
        dict(type='mmscalenet.PasteOnPhotograph', size=112, split='val'),
        dict(type='PackInputs'),
    ]))
test_dataloader = val_dataloader

default_hooks = dict(checkpoint=dict(max_keep_ckpts=1))
randomness = dict(seed=0)
