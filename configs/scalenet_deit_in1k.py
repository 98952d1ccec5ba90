_base_ = 'deit/scalenet-deit-small-x2_100e_in1k.py'
