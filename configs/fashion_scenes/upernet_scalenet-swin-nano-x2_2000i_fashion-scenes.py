# The trained segmentor, its backbone grown to twice the depth: the heads keep their weights as well.
_base_ = './upernet_swin-nano_6000i_fashion-scenes.py'

# what tools/train.py leaves of the base
load_from = 'work_dirs/upernet_swin-nano_6000i_fashion-scenes/iter_6000.pth'

model = dict(backbone=dict(scale=2, adapter=dict(_delete_=True, type='ParallelAdapter'), init_cfg=None))

train_cfg = dict(max_iters=2000, val_interval=1000)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, by_epoch=False, end=100),
    dict(type='PolyLR', eta_min=1e-6, power=1., by_epoch=False, begin=100, end=2000),
]
