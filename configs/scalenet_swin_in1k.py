_base_ = 'swin/scalenet-swin-tiny-x2_100e_in1k.py'
