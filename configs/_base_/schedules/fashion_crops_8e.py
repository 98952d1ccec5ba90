# Batches half as large and a seventh of the rate of the demo, with which the small Swin still guesses after an epoch of
# photographs.
_base_ = './fashion_9e.py'

optim_wrapper = dict(optimizer=dict(lr=3e-4))

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, by_epoch=False, end=50),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, convert_to_iter_based=True),
]

train_cfg = dict(max_epochs=8)

auto_scale_lr = dict(base_batch_size=64)
