"""The loss of a test set."""
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.evaluator import BaseMetric

from mmscalenet.registry import METRICS


@METRICS.register_module()
class CrossEntropy(BaseMetric):
    """Mean cross entropy of a classifier of mmpretrain, from the probabilities that it predicts.

    Finer than the share of right answers, and what scaling studies compare. No smoothing of labels, whatever the
    training does.
    """

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        right = torch.stack([sample['pred_score'][sample['gt_label']].squeeze() for sample in data_samples])
        # a probability may round to 0, and one such image would make the mean infinite
        self.results += right.double().clamp_min(torch.finfo(torch.float32).tiny).log().neg().tolist()

    def compute_metrics(self, results: list[float]) -> dict[str, float]:
        return {'cross_entropy': sum(results) / len(results)}
