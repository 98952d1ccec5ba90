"""Checkpoints of the tiny models with noise for weights, as after a training."""
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from parents import randomise

import mmscalenet  # noqa: F401


def write_checkpoint(config: Path, path: Path, depth: list[int] | None = None, classes: tuple = ()) -> torch.nn.Module:
    """Write a checkpoint of the model of a config and return the model, which is not changed by what reads the file."""
    cfg = Config.fromfile(config)
    init_default_scope(cfg.default_scope)
    model = revert_sync_batchnorm(randomise(MODELS.build(cfg.model)).eval())
    meta = dict(dataset_meta=dict(classes=classes)) if classes else {}
    if depth:
        meta['depth'] = dict(backbone=depth)
        model.backbone.set_depth(depth)
    torch.save(dict(state_dict=model.state_dict(), meta=meta), path)
    return model
