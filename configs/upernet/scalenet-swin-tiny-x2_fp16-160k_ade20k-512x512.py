# float16 is known to overflow in Swin; prefer bfloat16 where the GPU has it.
_base_ = '../upernet_scalenet_swin.py'

optim_wrapper = dict(type='AmpOptimWrapper', dtype='float16')
