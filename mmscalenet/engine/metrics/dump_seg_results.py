"""Segmentation results in a file."""
from collections.abc import Sequence
from typing import Any

from mmengine.evaluator import DumpResults


class DumpSegResults(DumpResults):
    """mmengine's ``DumpResults`` without the logits: ADE20K's would take hundreds of GB."""

    def process(self, data_batch: Any, predictions: Sequence[dict]) -> None:
        super().process(data_batch, [{key: value for key, value in sample.items() if key != 'seg_logits'}
                                     for sample in predictions])
