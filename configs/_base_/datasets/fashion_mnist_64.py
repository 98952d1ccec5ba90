# Fashion-MNIST as RGB images of 64 x 64: what backbones for Fashion scenes are pretrained on.
data_preprocessor = dict(num_classes=10, mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])

fashion_mnist = dict(type='FashionMNIST', data_root='data/fashion_mnist', download=False)
to_rgb = [
    dict(type='NumpyToPIL'),
    dict(type='torchvision/Grayscale', num_output_channels=3),
    dict(type='PILToNumpy'),
    dict(type='Resize', scale=(64, 64)),
]

train_dataloader = dict(
    batch_size=128,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        **fashion_mnist,
        indices=20000,
        pipeline=[
            dict(type='RandomCrop', crop_size=28, padding=4),
            dict(type='RandomFlip', prob=0.5, direction='horizontal'),
            *to_rgb,
            dict(type='PackInputs'),
        ]),
    sampler=dict(type='DefaultSampler', shuffle=True))

val_dataloader = dict(
    batch_size=250,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(**fashion_mnist, test_mode=True, pipeline=[*to_rgb, dict(type='PackInputs')]),
    sampler=dict(type='DefaultSampler', shuffle=False))
val_evaluator = dict(type='Accuracy', topk=(1, ))

test_dataloader = val_dataloader
test_evaluator = val_evaluator
