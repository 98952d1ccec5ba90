# The backbone of the Swin detectors and segmentors of this folder, pretrained on single garments before photographs.
# Expected: accuracy/top1 68.33 +- 1
_base_ = [
    '../_base_/models/swin_mini.py',
    '../_base_/datasets/fashion_crops.py',
    '../_base_/schedules/fashion_crops_8e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(
        _delete_=True,
        type='SwinTransformer',
        arch=dict(embed_dims=32, depths=[2, 2, 2, 2], num_heads=[1, 2, 4, 8]),
        img_size=64,
        window_size=4,
        pad_small_map=True),
    head=dict(in_channels=256))

# half the time on a CPU that multiplies in bfloat16
optim_wrapper = dict(type='AmpOptimWrapper', dtype='bfloat16')

default_hooks = dict(checkpoint=dict(max_keep_ckpts=1))
randomness = dict(seed=0)
