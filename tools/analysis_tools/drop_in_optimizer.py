"""The optimizer of a config before and after the change, for check_drop_in.py."""
import torch.nn as nn
from mmengine.config import Config, ConfigDict
from mmengine.optim import build_optim_wrapper

from mmscalenet.engine.optimizers.library_decay import let_libraries_count_positions

#: What says how parameters are treated; mixed precision and accumulation say nothing of that.
CHOOSES = ('optimizer', 'paramwise_cfg', 'constructor')


def learning_rates(module: nn.Module, optim_wrapper: ConfigDict, library: str) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay of each parameter in the optimizer of a config, by the parameter's name."""
    cfg = Config(dict(default_scope=library, optim_wrapper={
        key: optim_wrapper[key] for key in CHOOSES if key in optim_wrapper}))
    let_libraries_count_positions(cfg)
    groups = build_optim_wrapper(module, cfg.optim_wrapper).param_groups
    treated = {id(parameter): (group['lr'], group['weight_decay']) for group in groups for parameter in group['params']}
    return {name: treated[id(parameter)] for name, parameter in module.named_parameters() if id(parameter) in treated}


def difference(before: dict[str, tuple[float, float]], after: dict[str, tuple[float, float]]) -> str:
    """What parameters of the base are given otherwise than before; empty if nothing is."""
    after = {name.replace('.original_layer.', '.'): value for name, value in after.items()}
    wrong = [name for name, value in before.items() if after.get(name) != value]
    if not wrong:
        return ''
    return (f'the optimizer gives {len(wrong)} of {len(before)} parameters of the base another learning rate and '
            f'weight decay than before, e.g. {wrong[0]} {after.get(wrong[0])}, not {before[wrong[0]]}')
