"""A trained model from its config and checkpoint."""
import os

from mmengine.config import Config, ConfigDict
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS
from torch import Tensor, nn

from mmscalenet.checkpoints import CheckpointError, read_checkpoint
from mmscalenet.checkpoints.errors import some
from mmscalenet.checkpoints.formats import state_dict_in
from mmscalenet.checkpoints.values import check_values
from mmscalenet.engine.depth import take_depth

from .drawing import enter_scope


def load_model(cfg: Config, checkpoint: str | os.PathLike) -> tuple[nn.Module, dict]:
    """Build the model of a config with the weights of a checkpoint, on the CPU and in eval mode.

    Weights that ``init_cfg`` names are not needed. A grown backbone runs at the depth that the config says, else at
    that of the checkpoint.

    Args:
        cfg (Config): The config the model was trained with, of mmpretrain, mmdet or mmseg.
        checkpoint (str | os.PathLike): What the training wrote: path or URL. Read without running code in it, unless
            the config says ``trusted = True``.

    Returns:
        tuple[nn.Module, dict]: The model, and all that the checkpoint holds.

    Raises:
        CheckpointError: If the checkpoint cannot be read or does not fit the config exactly.
        ValueError: If the config is of none of the three libraries.
    """
    enter_scope(cfg)
    content = read_checkpoint(checkpoint, cfg.get('trusted', False))
    model = _build(cfg, content, checkpoint)
    take_depth(model, content)
    return model.eval(), content


def _build(cfg: Config, content: dict, name: str | os.PathLike) -> nn.Module:
    options = ConfigDict(cfg.model)
    if 'data_preprocessor' in cfg:
        options.setdefault('data_preprocessor', cfg.data_preprocessor)
    # a single process has no use for synchronised norms, and a CPU cannot run them
    model = revert_sync_batchnorm(MODELS.build(options))
    state = state_dict_in(content)
    try:
        check_values({key: value for key, value in state.items() if isinstance(value, Tensor)}, model.state_dict())
        result = model.load_state_dict(state, strict=False)
    except (RuntimeError, CheckpointError) as error:
        raise CheckpointError(f'checkpoint "{name}" does not fit the config: {error}') from error
    # a grown model's checkpoint fills the base's config, too, and mmengine would only log what is left over
    if result.missing_keys or result.unexpected_keys:
        raise CheckpointError(
            f'checkpoint "{name}" does not fit the config. The model has and the checkpoint lacks: '
            f'{some(result.missing_keys, limit=2) or "nothing"}; the checkpoint has and the model lacks: '
            f'{some(result.unexpected_keys, limit=2) or "nothing"}. Give the config it was trained with.')
    return model
