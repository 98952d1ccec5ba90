"""Multiply-adds of what a training step runs forward: heads train on other proposals than they predict from."""
import torch
import torch.nn as nn
from drop_in_trial import make_batch
from get_flops import count_multiply_adds, counting
from mmengine.config import Config

from mmscalenet.engine import library_of


def training_multiply_adds(model: nn.Module, cfg: Config, image: tuple[int, int, int], batch: int) -> int:
    """Of a batch's forward pass in training.

    Args:
        model (nn.Module): The model of the config. Of a detector or segmentor the weights are set to 0.
        cfg (Config): The config, of mmpretrain, mmdet or mmseg.
        image (tuple[int, int, int]): Channels, height and width of an image.
        batch (int): Images in the batch.
    """
    if library_of(cfg) == 'mmpretrain':
        return count_multiply_adds(model, image, batch)
    return count_losses(model, cfg, image) * batch // 2


def count_losses(model: nn.Module, cfg: Config, image: tuple[int, int, int]) -> int:
    """Multiply-adds of the losses of two random images.

    All weights become 0, so that proposals are anchors, and as many of them positive on every machine.
    """
    torch.manual_seed(0)  # of the sampler of proposals
    for weight in model.parameters():
        nn.init.zeros_(weight)
    batch = model.data_preprocessor(make_batch(cfg.model, library_of(cfg), image), training=True)
    with counting() as counter:
        model.train().loss(batch['inputs'], batch['data_samples'])
    return counter.get_total_flops() // 2
