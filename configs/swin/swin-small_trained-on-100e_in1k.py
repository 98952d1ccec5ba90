# The base itself, trained on for the same extra epochs: what growing has to beat.
_base_ = './scalenet-swin-small-x2_100e_in1k.py'

model = dict(backbone=dict(scale=1, adapter=None))
