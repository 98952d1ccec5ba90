# A Swin of the fewest blocks, one pair of plain and shifted windows at each of two stages, on garments before
# photographs: 8 x 8 patches of 5 x 5 pixels in windows of 4 x 4, then 4 x 4 in one window.
_base_ = './swin-micro_3600i_fashion-mnist.py'

model = dict(backbone=dict(arch=dict(depths=[2, 2]), img_size=40, patch_size=5, in_channels=3))

data_preprocessor = dict(
    num_classes=10, mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)

crops = dict(cache='data/fashion_crops')
train_dataloader = dict(
    dataset=dict(**crops, pipeline=[dict(type='mmscalenet.PasteOnPhotograph', size=40)]))
val_dataloader = dict(
    dataset=dict(**crops, pipeline=[dict(type='mmscalenet.PasteOnPhotograph', size=40, split='val')]))
test_dataloader = val_dataloader

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, by_epoch=False, begin=0, end=400),
    dict(type='LinearLR', start_factor=1., end_factor=1e-3, by_epoch=False, begin=13600, end=16000),
]

train_cfg = dict(max_iters=16000, val_interval=1600)

default_hooks = dict(checkpoint=dict(interval=200))
