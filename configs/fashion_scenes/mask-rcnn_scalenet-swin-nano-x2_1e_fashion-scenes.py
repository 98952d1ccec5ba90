# The trained detector, its backbone grown to twice the depth: neck and heads keep their weights as well.
_base_ = './mask-rcnn_swin-nano_3e_fashion-scenes.py'

# what tools/train.py leaves of the base
load_from = 'work_dirs/mask-rcnn_swin-nano_3e_fashion-scenes/epoch_3.pth'

model = dict(backbone=dict(scale=2, adapter=dict(_delete_=True, type='ParallelAdapter'), init_cfg=None))

train_cfg = dict(max_epochs=1)
