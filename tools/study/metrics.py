"""By what runs are compared."""
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """A measure of an evaluation.

    Attributes:
        key (str): Its name in the lines of the study.
        source (str): What the evaluator calls it.
        label (str): Its name in tables and figures.
        digits (int): After the point.
        better (int): 1 if more is better, else -1.
        factor (float): From the evaluator's unit to ours. Defaults to 1.
    """
    key: str
    source: str
    label: str
    digits: int
    better: int = 1
    factor: float = 1.

    @property
    def name(self) -> str:
        """The label without its unit."""
        return self.label.removesuffix(' (%)')


METRICS = (
    Metric('top1', 'accuracy/top1', 'top-1 (%)', 2),
    Metric('test_loss', 'cross_entropy', 'test loss', 4, better=-1),
    Metric('box_ap', 'coco/bbox_mAP', 'box AP', 2, factor=100.),
    Metric('mask_ap', 'coco/segm_mAP', 'mask AP', 2, factor=100.),
    Metric('miou', 'mIoU', 'mIoU (%)', 2),
)


def of_record(record: dict) -> list[Metric]:
    """Those that the evaluations of a run have."""
    return [metric for metric in METRICS if metric.key in record['curve'][-1]]


def measured(evaluation: dict) -> dict[str, float]:
    """The metrics of a line of ``CurveHook``, by our names and in our units."""
    return {metric.key: metric.factor * evaluation[metric.source] for metric in METRICS if metric.source in evaluation}


def in_words(values: dict[str, float]) -> str:
    """E.g. 'top-1 (%) 54.61, test loss 1.2150'."""
    return ', '.join(f'{metric.label} {values[metric.key]:.{metric.digits}f}' for metric in METRICS
                     if metric.key in values)
