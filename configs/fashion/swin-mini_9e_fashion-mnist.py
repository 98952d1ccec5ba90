# Expected: accuracy/top1 85.27 +- 1
_base_ = [
    '../_base_/models/swin_mini.py',
    '../_base_/datasets/fashion_mnist.py',
    '../_base_/schedules/fashion_9e.py',
    '../_base_/default_runtime.py',
]

default_hooks = dict(logger=dict(interval=20, ignore_last=False), checkpoint=dict(max_keep_ckpts=1))
# the time of an iteration as the mean of the epoch so far, not of the last ten
log_processor = dict(custom_cfg=[dict(data_src='time', method_name='mean', window_size='epoch')])
randomness = dict(seed=0)
