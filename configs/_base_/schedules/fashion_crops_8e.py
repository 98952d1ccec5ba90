# Half the rate: with that of the demo the small Swin still guessed after 250 steps of pretraining.
_base_ = './fashion_9e.py'

optim_wrapper = dict(optimizer=dict(lr=1e-3))

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, by_epoch=False, end=50),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, convert_to_iter_based=True),
]

train_cfg = dict(max_epochs=5)
