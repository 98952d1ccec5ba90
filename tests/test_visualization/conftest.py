"""Fixtures: a checkpoint."""
import pytest


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    """A function that writes a checkpoint of a config's model with random weights."""
    def write(config):
        import torch
        from mmengine.config import Config
        from mmengine.registry import MODELS, init_default_scope
        cfg = Config.fromfile(config)
        init_default_scope(cfg.default_scope)
        path = tmp_path_factory.mktemp('weights') / 'epoch_1.pth'
        torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict()), path)
        return path

    return write
