# The backbone of the DeiT detectors and segmentors of this folder, pretrained on single garments before photographs.
# Expected: accuracy/top1 51.88 +- 1
_base_ = [
    '../_base_/models/deit_mini.py',
    '../_base_/datasets/fashion_crops.py',
    '../_base_/schedules/fashion_crops_8e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(
        arch=dict(embed_dims=128, num_layers=6, feedforward_channels=512),
        img_size=64,  # 4 x 4 patches: a third of the time of the 7 x 7 of a detector's window
        patch_size=16,
        in_channels=3),
    head=dict(in_channels=128))

default_hooks = dict(checkpoint=dict(max_keep_ckpts=1))
randomness = dict(seed=0)
