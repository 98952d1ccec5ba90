_base_ = '../mask_rcnn_scalenet_swin.py'

optim_wrapper = dict(type='AmpOptimWrapper', dtype='bfloat16')
