_base_ = '../upernet_scalenet_swin.py'

optim_wrapper = dict(type='AmpOptimWrapper', dtype='bfloat16')
