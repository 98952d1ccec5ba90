# Written by tools/dataset_converters/prepare_fashion_mnist.py
data_preprocessor = dict(num_classes=10, mean=[72.94], std=[90.02])

fashion_mnist = dict(type='FashionMNIST', data_root='data/fashion_mnist', download=False)

train_dataloader = dict(
    batch_size=128,
    # All images are in memory and the transforms take a twentieth of a training step: workers would only take cores
    # from the training.
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        **fashion_mnist,
        # An epoch is 20,000 of the 60,000 images, so that a few epochs fit into minutes on one core.
        indices=20000,
        pipeline=[
            dict(type='RandomCrop', crop_size=28, padding=2),
            dict(type='RandomFlip', prob=0.5, direction='horizontal'),
            dict(type='PackInputs'),
        ]),
    sampler=dict(type='DefaultSampler', shuffle=True))

val_dataloader = dict(
    batch_size=500,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(**fashion_mnist, test_mode=True, pipeline=[dict(type='PackInputs')]),
    sampler=dict(type='DefaultSampler', shuffle=False))
val_evaluator = dict(type='Accuracy', topk=(1, ))

test_dataloader = val_dataloader
test_evaluator = val_evaluator
