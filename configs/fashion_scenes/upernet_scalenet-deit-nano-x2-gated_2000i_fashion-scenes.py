# Starts as the trained segmentor exactly: gates on what is added are closed, and open at ten times the rate of weights.
_base_ = './upernet_scalenet-deit-nano-x2_2000i_fashion-scenes.py'

# with 'cyclic' its taps would come after further blocks of the base
model = dict(backbone=dict(gate=0., layer_map='interleaved'))

optim_wrapper = dict(paramwise_cfg=dict(gate_lr_mult=10.))
