"""Labels that the head of a detector does not know, and classes that the data do not have."""
from operator import attrgetter

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from ..errors import UsageError
from ..model_of import model_of

HEADS = ('roi_head.bbox_head', 'bbox_head', 'mask_head')


class DetectionLabelHook(Hook):
    """Name the image with a label outside the classes of the head, where a loss fails at it, or takes it as background.

    mmdet's ``NumClassCheckHook`` compares the head with the data set's classes; that also stops models whose head is
    for a part of them (Panoptic FPN). More classes in the head than in the data are said, as they may be meant.
    """

    def before_train(self, runner: Runner) -> None:
        model = model_of(runner)
        self.name, self.num_classes = _classes_of_head(model)
        classes = (getattr(runner.train_dataloader.dataset, 'metainfo', None) or {}).get('classes')
        if classes and self.num_classes is not None and self.num_classes > len(classes):
            runner.logger.warning(f'model.{self.name}.num_classes={self.num_classes}, and the data have '
                                  f'{len(classes)} classes: {", ".join(map(str, classes[:5]))}'
                                  f'{", ..." if len(classes) > 5 else ""}. Is it the number of another data set?')

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        if self.num_classes is None or not isinstance(data_batch['data_samples'], list):  # else: semi-supervised
            return
        for sample in data_batch['data_samples']:
            labels = sample.gt_instances.labels if 'gt_instances' in sample else ()
            if len(labels) and labels.max() >= self.num_classes:
                raise UsageError(
                    f'the image "{sample.get("img_path")}" has an object of class {labels.max().item()}, and with '
                    f'model.{self.name}.num_classes={self.num_classes} those from 0 to {self.num_classes - 1} are '
                    'known. Give every head of the model the number of classes of the data, or the data set the '
                    'classes of the model (metainfo).')


def _classes_of_head(model: nn.Module) -> tuple[str, int | None]:
    """Name of the head that classifies and its number of classes; None where words take the place of classes."""
    for name in HEADS:
        try:
            head = attrgetter(name)(model)
        except AttributeError:
            continue
        head = head[-1] if isinstance(head, nn.ModuleList) else head
        if not hasattr(model, 'language_model') and isinstance(getattr(head, 'num_classes', None), int):
            return name, head.num_classes
    return '', None
