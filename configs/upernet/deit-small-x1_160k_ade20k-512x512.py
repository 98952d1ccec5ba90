# The base with the same code: what growing has to beat.
_base_ = '../upernet_scalenet_deit.py'

model = dict(backbone=dict(scale=1, adapter=None))
