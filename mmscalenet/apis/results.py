"""Predictions as plain values."""
from collections.abc import Sequence

import numpy as np
from mmengine.structures import BaseDataElement

TOP = 5


def describe(sample: BaseDataElement, classes: Sequence[str], score_thr: float = 0.) -> dict:
    """What is predicted for an image, ready for JSON.

    Args:
        sample (BaseDataElement): What :class:`~mmscalenet.apis.Inferencer` yields.
        classes (Sequence[str]): Names of the labels.
        score_thr (float): Detections with a lower score are left out. Defaults to 0.

    Returns:
        dict: Classification: ``label``, ``name``, ``score`` and ``top5``, a list of the same three. Detection:
        ``boxes`` (x1, y1, x2, y2 in pixels), ``labels``, ``names``, ``scores`` and, of a model with masks, ``masks``
        (COCO run lengths). Segmentation: ``classes``, those present, each with ``label``, ``name`` and ``share`` of
        the pixels, largest first.

    Raises:
        ValueError: If it is none of these, e.g. a panoptic map.
    """
    if 'pred_instances' in sample:
        return _instances(sample.pred_instances, classes, score_thr)
    if 'pred_sem_seg' in sample:
        labels, counts = np.unique(sample.pred_sem_seg.data.cpu().numpy(), return_counts=True)
        found = sorted(zip(counts.tolist(), labels.tolist(), strict=True), reverse=True)
        return dict(classes=[dict(label=label, name=_name(classes, label), share=count / counts.sum().item())
                             for count, label in found])
    if 'pred_score' not in sample:
        found = ', '.join(key for key in sample.keys() if key.startswith('pred_'))
        raise ValueError(f'the model predicts {found or "nothing"}, and only classes of images (pred_score), '
                         'detections (pred_instances) and semantic maps (pred_sem_seg) can be described. Use a model '
                         'of these kinds.')
    scores = sample.pred_score.cpu()
    best = [dict(label=label, name=_name(classes, label), score=scores[label].item())
            for label in scores.argsort(descending=True)[:TOP].tolist()]
    return dict(best[0], top5=best)


def _name(classes: Sequence[str], label: int) -> str:
    return classes[label] if label < len(classes) else f'class {label}'  # of a head with more classes than the data


def _instances(instances: BaseDataElement, classes: Sequence[str], score_thr: float) -> dict:
    instances = instances[instances.scores > score_thr].cpu()
    result = dict(
        boxes=instances.bboxes.tolist(),
        labels=instances.labels.tolist(),
        names=[_name(classes, label) for label in instances.labels.tolist()],
        scores=instances.scores.tolist())
    if 'masks' in instances:
        from mmdet.structures.mask import encode_mask_results
        codes = encode_mask_results(instances.masks.numpy())
        result['masks'] = [dict(size=code['size'], counts=code['counts'].decode('ascii')) for code in codes]
    return result
