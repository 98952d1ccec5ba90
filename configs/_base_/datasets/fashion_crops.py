# Garments of Fashion-MNIST on photographs, 64 x 64: what backbones for Fashion scenes are pretrained on.
data_preprocessor = dict(num_classes=10, mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)

fashion_mnist = dict(type='FashionMNIST', data_root='data/fashion_mnist', download=False)

train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        **fashion_mnist,
        pipeline=[
            dict(type='mmscalenet.PasteOnPhotograph', size=64),
            dict(type='PackInputs'),
        ]),
    sampler=dict(type='DefaultSampler', shuffle=True))

val_dataloader = dict(
    batch_size=250,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        **fashion_mnist,
        test_mode=True,
        pipeline=[
            dict(type='mmscalenet.PasteOnPhotograph', size=64, split='val'),
            dict(type='PackInputs'),
        ]),
    sampler=dict(type='DefaultSampler', shuffle=False))
val_evaluator = dict(type='Accuracy', topk=(1, ))

test_dataloader = val_dataloader
test_evaluator = val_evaluator
