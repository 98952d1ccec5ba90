# Sharing alone: added positions have nothing of their own.
_base_ = './scalenet-deit-small-x2_100e_in1k.py'

model = dict(backbone=dict(adapter=None))
