# The base of the study with 1 block on other images: garments before photographs, in colour, 25 patches of 8 x 8. All
# are made before the first step, as making one takes longer than a step with it.
_base_ = './deit-shallow_32k_fashion-mnist.py'

model = dict(backbone=dict(arch=dict(num_layers=1), img_size=40, patch_size=8, in_channels=3))

data_preprocessor = dict(
    num_classes=10, mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)

crops = dict(cache='data/fashion_crops')
train_dataloader = dict(
    dataset=dict(**crops, pipeline=[dict(type='mmscalenet.PasteOnPhotograph', size=40)]))
val_dataloader = dict(
    dataset=dict(**crops, pipeline=[dict(type='mmscalenet.PasteOnPhotograph', size=40, split='val')]))
test_dataloader = val_dataloader
