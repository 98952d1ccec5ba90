# Fashion-MNIST as batches from memory; written by tools/dataset_converters/prepare_fashion_mnist.py
data_preprocessor = dict(num_classes=10, mean=[72.94], std=[90.02])

fashion_mnist = dict(type='mmscalenet.InMemoryFashionMNIST', data_root='data/fashion_mnist', download=False)

train_dataloader = dict(
    batch_size=128,
    num_workers=0,
    persistent_workers=False,
    collate_fn=dict(type='mmscalenet.keep_batch'),
    dataset=dict(**fashion_mnist, padding=2, flip_prob=0.5),
    sampler=dict(type='InfiniteSampler', shuffle=True))

val_dataloader = dict(
    batch_size=500,
    num_workers=0,
    persistent_workers=False,
    collate_fn=dict(type='mmscalenet.keep_batch'),
    dataset=dict(**fashion_mnist, test_mode=True),
    sampler=dict(type='DefaultSampler', shuffle=False))
val_evaluator = [dict(type='Accuracy', topk=(1, )), dict(type='mmscalenet.CrossEntropy')]

test_dataloader = val_dataloader
test_evaluator = val_evaluator
