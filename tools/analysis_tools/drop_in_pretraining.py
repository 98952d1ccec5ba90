"""Batches for models that pretrain without labels, for check_drop_in.py."""
import inspect
from collections.abc import Iterator

import torch
import torch.nn as nn
from mmengine.config import Config, ConfigDict
from mmengine.logging import MessageHub
from mmengine.registry import TRANSFORMS


def pretrains(model: ConfigDict, library: str) -> bool:
    """Whether it is one of mmpretrain's that mask or compare images. They have a loss and predict nothing."""
    if library != 'mmpretrain':
        return False
    from mmpretrain.models import BaseSelfSupervisor
    from mmpretrain.registry import MODELS
    kind = MODELS.get(model.type) if isinstance(model.type, str) else model.type
    return isinstance(kind, type) and issubclass(kind, BaseSelfSupervisor)


def training_pipeline(cfg: Config) -> list[ConfigDict]:
    """The transforms of the training set."""
    return ((cfg.get('train_dataloader') or {}).get('dataset') or {}).get('pipeline') or []


def pretraining_batch(model: ConfigDict, pipeline: list[ConfigDict], shape: tuple[int, int, int]) -> dict:
    """Two random images with the masks of the config's own generator, in as many views as the model compares."""
    from mmpretrain.structures import DataSample
    MessageHub.get_current_instance().update_info('max_iters', 100)  # MoCo's average asks for it
    inputs = torch.randint(0, 256, (2, *shape), dtype=torch.uint8)
    second = next((t.second_size for t in pipeline if t.get('second_size')), None)
    if second or model.type == 'MoCoV3':
        size = (second, second) if second else shape[1:]
        inputs = [inputs, torch.randint(0, 256, (2, shape[0], *size), dtype=torch.uint8)]
    samples = [DataSample() for _ in range(2)]
    for sample in samples:
        for mask in _masks(pipeline):
            sample.set_field(mask, 'mask')
    return dict(inputs=inputs, data_samples=samples)


def _masks(pipeline: list[ConfigDict]) -> Iterator[torch.Tensor]:
    for transform in pipeline:
        if str(transform.type).endswith('MaskGenerator'):
            yield torch.as_tensor(TRANSFORMS.build(transform)({})['mask'])


def unmasked(backbone: nn.Module) -> dict[str, None]:
    """The arguments with which a backbone masks nothing."""
    return {name: None for name in inspect.signature(backbone.forward).parameters if name in ('mask', 'importance')}
