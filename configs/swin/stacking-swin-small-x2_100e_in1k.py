# Progressive stacking: every added position starts as a copy of its block and is trained on its own.
_base_ = './scalenet-swin-small-x2_100e_in1k.py'

model = dict(backbone=dict(share=False, adapter=None))
