"""Layer-wise learning-rate decay, for models of mmpretrain, mmdet and mmseg alike."""
from collections.abc import Callable

from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from mmscalenet.registry import OPTIM_WRAPPER_CONSTRUCTORS
from mmscalenet.tables import align

#: What ``paramwise_cfg`` may hold, with the defaults.
SETTINGS = dict(layer_decay_rate=1., adapter_lr_mult=1., gate_lr_mult=1., custom_keys={})
#: Never decayed, beside all that has one dimension (norms, biases, gates).
NO_DECAY = ('relative_position_bias_table', 'pos_embed', 'cls_token', 'dist_token', 'register_tokens')


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Learning rates that shrink with the distance to the output; BEiT, arXiv 2106.08254, appendix.

    ``lr = base_lr * layer_decay_rate ** (num_depths - 1 - depth) * multiplier``. A shared block has the depth it has in
    the base, however often it runs; what a position owns has the depth of the block at the same relative depth (see
    ``get_layer_depth``). No weight decay on norms, biases, gates, tokens and position tables.

    ``paramwise_cfg`` may hold

    - ``layer_decay_rate`` (float): Defaults to 1.
    - ``adapter_lr_mult`` (float): Further factor for adapters. Defaults to 1.
    - ``gate_lr_mult`` (float): Further factor for gates and the factors of ``inject``, which hardly move at the common
      rate. Defaults to 1.
    - ``custom_keys`` (dict): Part of a name -> ``dict(lr_mult=, decay_mult=)``, in place of the factors above; the
      longest part that matches counts. Defaults to an empty dict.

    Example:
        >>> optim_wrapper = dict(
        >>>     optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.05),
        >>>     constructor='mmscalenet.LayerDecayOptimWrapperConstructor',
        >>>     paramwise_cfg=dict(layer_decay_rate=0.8, gate_lr_mult=10.))

    Raises:
        ValueError: If ``paramwise_cfg`` holds something else or a value that is not positive.
        TypeError: If no part of the model can tell the depth of its parameters.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        # never empty: mmengine passes over `add_params` then, and all would decay
        settings = {**SETTINGS, **(paramwise_cfg or {})}
        self._check(settings)
        super().__init__(optim_wrapper_cfg, settings)

    def add_params(self, params: list[dict], module: nn.Module, **kwargs) -> None:
        settings = self.paramwise_cfg
        depth_of = _depth_function(module)
        groups: dict[tuple, dict] = {}
        for name, parameter in module.named_parameters():
            if not parameter.requires_grad:
                continue
            depth, num_depths = depth_of(name)
            kind, lr_mult, decay_mult = _multipliers(name, parameter, settings)
            lr_mult *= settings['layer_decay_rate'] ** (num_depths - 1 - depth)
            group = groups.setdefault((depth, kind, lr_mult, decay_mult), dict(params=[]))
            group['params'].append(parameter)
            group['lr'] = self.base_lr * lr_mult
            if self.base_wd is not None:
                group['weight_decay'] = self.base_wd * decay_mult
        rows = [('depth', 'what', 'tensors', 'parameters', 'lr', 'weight decay')]
        for (depth, kind, _, _), group in sorted(groups.items()):
            params.append(group)
            rows.append((str(depth), kind, str(len(group['params'])), f'{sum(p.numel() for p in group["params"]):,}',
                         f'{group["lr"]:.3g}', f'{group.get("weight_decay", 0):.3g}'))
        print_log(f'parameter groups:\n{align(rows)}', logger='current')

    @staticmethod
    def _check(settings: dict) -> None:
        for name, value in settings.items():
            if name not in SETTINGS:
                raise ValueError(f'paramwise_cfg has {name}={value!r}, which this constructor does not know; allowed '
                                 f'are {sorted(SETTINGS)}')
            if name == 'custom_keys':
                _check_custom_keys(value)
                continue
            if not (isinstance(value, (int, float)) and 0 < value < float('inf')):
                raise ValueError(f'paramwise_cfg: {name}={value!r} is not allowed; give a positive number')


def _check_custom_keys(custom_keys: dict) -> None:
    if not isinstance(custom_keys, dict):
        raise ValueError(f'paramwise_cfg: custom_keys={custom_keys!r} is not allowed; give a dict')
    for key, custom in custom_keys.items():
        if not (isinstance(custom, dict) and set(custom) <= {'lr_mult', 'decay_mult'}
                and all(isinstance(factor, (int, float)) and 0 <= factor < float('inf') for factor in custom.values())):
            raise ValueError(f'paramwise_cfg: custom_keys has {key!r}: {custom!r}; give dict(lr_mult=, decay_mult=) '
                             'with numbers from 0 on')


def _depth_function(model: nn.Module) -> Callable[[str], tuple[int, int]]:
    # a classifier of mmpretrain has it too, and passes on to its backbone
    backbones = {f'{name}.' if name else '': module for name, module in model.named_modules()
                 if hasattr(module, 'get_layer_depth') and not hasattr(module, 'backbone')}

    def depth_of(parameter: str) -> tuple[int, int]:
        prefix = next(filter(parameter.startswith, backbones), next(iter(backbones)))
        return backbones[prefix].get_layer_depth(parameter, prefix)

    if backbones:
        return depth_of
    raise TypeError(f'no part of {type(model).__name__} has `get_layer_depth`; layer-wise decay needs a backbone like '
                    'mmscalenet.ScaleNetSwin (scale=1, adapter=None for the plain one)')


def _multipliers(name: str, parameter: nn.Parameter, settings: dict) -> tuple[str, float, float]:
    """Kind, learning-rate factor and weight-decay factor of one parameter."""
    decay = 0. if parameter.ndim <= 1 or name.endswith(NO_DECAY) else 1.
    keys = sorted((key for key in settings['custom_keys'] if key in name), key=len)
    if keys:
        custom = settings['custom_keys'][keys[-1]]
        return keys[-1], custom.get('lr_mult', 1.), custom.get('decay_mult', decay)
    if '.positions.' in name and name.endswith(('.gate', '.inject')):
        return 'gates', settings['gate_lr_mult'], decay
    if '.positions.' in name and '.adapter.' in name:
        return 'adapters', settings['adapter_lr_mult'], decay
    return 'weights' if decay else 'norms, biases, tokens', 1., decay
