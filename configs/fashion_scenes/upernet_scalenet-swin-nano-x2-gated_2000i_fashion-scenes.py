# Starts as the trained segmentor exactly: gates on what is added are closed, and open at ten times the rate of weights.
# Expected: mIoU 40.56 +- 2
_base_ = './upernet_scalenet-swin-nano-x2_2000i_fashion-scenes.py'

model = dict(backbone=dict(gate=0.))

optim_wrapper = dict(paramwise_cfg=dict(gate_lr_mult=10.))
