# Expected: accuracy/top1 86.06 +- 1
_base_ = './swin-mini_9e_fashion-mnist.py'

# what tools/train.py leaves of the base
checkpoint = 'work_dirs/swin-mini_9e_fashion-mnist/epoch_9.pth'

model = dict(
    backbone=dict(
        type='mmscalenet.ScaleNetSwin', scale=2, init_cfg=dict(type='Pretrained', checkpoint=checkpoint)),
    head=dict(init_cfg=dict(_delete_=True, type='Pretrained', checkpoint=checkpoint, prefix='head.')))

train_cfg = dict(max_epochs=3)
