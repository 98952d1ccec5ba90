"""Ways of training in several processes: those that cannot work are named before anything is built."""
from mmengine.config import Config

from .cli import full_type
from .errors import UsageError


def check_parallel(cfg: Config) -> None:
    """Refuse what would fail in the middle of an iteration, or train something else without a word.

    Args:
        cfg (Config): The config, whose ``launcher`` is set.

    Raises:
        UsageError: If the config asks for it.
    """
    optimizer = (cfg.get('optim_wrapper') or {}).get('optimizer') or {}
    if cfg.get('launcher', 'none') == 'none':
        if _is_sharded(cfg) or full_type(optimizer).endswith('ZeroRedundancyOptimizer'):
            raise UsageError('FSDPStrategy and ZeroRedundancyOptimizer divide what they keep among the processes of a '
                             'launcher, and none was named; start with tools/dist_train.sh.')
        return
    flexible = is_flexible(cfg)
    strategy = cfg.get('strategy') or {}
    wrapper = (strategy.get('model_wrapper') if flexible else cfg.get('model_wrapper_cfg')) or {}
    if strategy and not flexible:
        raise UsageError("the config has a strategy, which mmengine's Runner does not read; set "
                         "runner_type='FlexibleRunner', or leave strategy out.")
    if flexible and cfg.get('activation_checkpointing'):
        raise UsageError("activation_checkpointing is read by mmengine's Runner alone, and runner_type is "
                         "FlexibleRunner; give the backbone with_cp=True, or the strategy an "
                         'activation_checkpointing of its own.')
    if full_type(wrapper).endswith('FullyShardedDataParallel') and not flexible:
        raise UsageError("mmengine's Runner initialises and saves weights after it has wrapped the model, and "
                         'MMFullyShardedDataParallel then has shards of them alone; set '
                         "runner_type='FlexibleRunner' and strategy=dict(type='FSDPStrategy') instead of "
                         'model_wrapper_cfg.')
    if wrapper.get('static_graph'):
        _check_static(cfg)
    if _is_sharded(cfg):
        _check_sharded(cfg)


def unshard(cfg: Config) -> None:
    """Have the model of a config that shards it for training tested as the whole that its checkpoint is."""
    if _is_sharded(cfg):
        cfg.pop('runner_type')
        cfg.pop('strategy')


def is_flexible(cfg: Config) -> bool:
    """Whether mmengine's FlexibleRunner is asked for, which takes how a model is wrapped from its strategy."""
    return full_type(dict(type=cfg.get('runner_type', ''))).endswith('FlexibleRunner')


def ddp_arguments(cfg: Config) -> dict | None:
    """The part of a config with the arguments that DistributedDataParallel gets; None where the config has none.

    That of a FlexibleRunner is written into the config where it is left to mmengine.
    """
    if not is_flexible(cfg):
        wrapper = cfg.get('model_wrapper_cfg')
    elif cfg.get('launcher', 'none') == 'none':
        return None
    else:
        cfg.strategy = cfg.get('strategy') or dict(type='DDPStrategy')  # as mmengine does
        if not full_type(cfg.strategy).endswith('DDPStrategy'):
            return None
        cfg.strategy.model_wrapper = cfg.strategy.get('model_wrapper') or dict(
            type='MMDistributedDataParallel', broadcast_buffers=False)
        wrapper = cfg.strategy.model_wrapper
    is_ddp = wrapper and ('type' not in wrapper or full_type(wrapper).endswith('DistributedDataParallel'))
    return wrapper if is_ddp else None


def _is_sharded(cfg: Config) -> bool:
    return is_flexible(cfg) and full_type(cfg.get('strategy') or {}).endswith('FSDPStrategy')


def _check_static(cfg: Config) -> None:
    counts = (cfg.get('optim_wrapper') or {}).get('accumulative_counts', 1)
    if counts > 1:
        raise UsageError(f'static_graph=True does not go with accumulative_counts={counts}: DistributedDataParallel '
                         'notes the graph in its first iteration, and has to sum gradients in it. Leave out one of '
                         'them.')
    if hooks_of(cfg, 'DepthHook'):
        raise UsageError('static_graph=True promises DistributedDataParallel that every iteration uses the same '
                         'parameters, and DepthHook changes which; leave out static_graph.')


def _check_sharded(cfg: Config) -> None:
    kept = cfg.strategy.get('state_dict_cfg', 'local')
    if kept != 'full' and not (isinstance(kept, dict) and kept.get('state_dict_type') == 'FULL_STATE_DICT'):
        raise UsageError(f'FSDPStrategy with state_dict_cfg={kept!r} writes a folder of shards for a checkpoint, which '
                         "tools/test.py does not read; set state_dict_cfg='full' in the strategy.")
    if cfg.get('load_from') or cfg.get('resume'):
        raise UsageError('FSDPStrategy reads a checkpoint into a model that it has split, with which the weights '
                         'cannot be compared; to start from weights name the file in the init_cfg of the backbone, to '
                         'resume train with DDP.')
    clip = (cfg.get('optim_wrapper') or {}).get('clip_grad') or {}
    if clip and clip.get('type', 'norm') == 'norm':
        raise UsageError('clip_grad takes the norm of the gradients that a process has, which with FSDPStrategy is '
                         'that of its shard: each would scale by another factor. Clip by value, '
                         "clip_grad=dict(type='value', clip_value=...), or train with DDP.")
    if hooks_of(cfg, 'DepthHook'):
        raise UsageError('with FSDPStrategy what does not run gets gradients of 0 in the place of none, with which '
                         'momentum and weight decay change it: leave out DepthHook, or train with DDP.')
    if hooks_of(cfg, 'EMAHook'):
        raise UsageError('EMAHook copies the model, and with FSDPStrategy a process has no more than its shard; leave '
                         'the hook out, or train with DDP.')


def hooks_of(cfg: Config, name: str) -> list[dict]:
    """The hooks of a config whose type ends with ``name``."""
    hooks = [*(cfg.get('default_hooks') or {}).values(), *(cfg.get('custom_hooks') or [])]
    return [hook for hook in hooks if isinstance(hook, dict) and full_type(hook).endswith(name)]
