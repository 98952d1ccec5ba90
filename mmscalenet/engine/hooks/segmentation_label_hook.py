"""Labels that the head of a segmentor does not know."""
import math

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from ..errors import UsageError
from ..model_of import model_of


class SegmentationLabelHook(Hook):
    """Name the segmentation map with a label outside the classes, before a loss fails at it.

    On a GPU that failure is an assertion without file or value, which also ends the process.
    """

    def before_train(self, runner: Runner) -> None:
        model = model_of(runner)
        head = getattr(model, 'decode_head', None)  # a segmentor of one's own may have none
        head = head[-1] if isinstance(head, nn.ModuleList) else head
        # one class with a sigmoid has the labels 0 and 1
        self.num_classes = max(2, getattr(head, 'num_classes', math.inf))
        self.ignore_index = getattr(head, 'ignore_index', 255)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        for sample in data_batch['data_samples']:
            if 'gt_sem_seg' not in sample:  # depth
                continue
            labels = sample.gt_sem_seg.data
            wrong = labels[(labels >= self.num_classes) & (labels != self.ignore_index)]
            if len(wrong):
                raise UsageError(
                    f'the segmentation map "{sample.get("seg_map_path")}" of the image "{sample.get("img_path")}" has '
                    f'the labels {torch.unique(wrong).tolist()[:5]}. With num_classes={self.num_classes} those from 0 '
                    f'to {self.num_classes - 1} are allowed, and {self.ignore_index} for what is ignored (after '
                    'reduce_zero_label, which lowers labels by one). Correct the map or num_classes.')
