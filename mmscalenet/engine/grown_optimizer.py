"""The optimizer and the schedules of a run, for the parameters of its grown model."""
import copy
import logging

import torch
from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper, build_optim_wrapper
from mmengine.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

from mmscalenet.expansion import position_lists
from mmscalenet.models.backbones.scalenet import EXPAND_ARGUMENTS, depth_is_its_parents

from .cli import LIBRARIES, full_type, short_type
from .errors import ResumeError
from .grown_schedules import grow_schedules
from .literals import read_variable


def model_config(cfg: Config) -> ConfigDict:
    """The model of a config as a runner builds it."""
    model = ConfigDict(cfg.model)
    if cfg.get('data_preprocessor') is not None:
        model.setdefault('data_preprocessor', cfg.data_preprocessor)
    return model


def grow_optimizer(model: nn.Module, cfg: Config, run: dict) -> tuple[dict, list[dict] | None]:
    """The states of the optimizer wrapper and of the parameter schedulers that a grown run goes on with.

    Args:
        model (nn.Module): The grown model.
        cfg (Config): Its config.
        run (dict): What the checkpoint of the base's run holds.

    Returns:
        tuple[dict, list[dict] | None]: State of the optimizer wrapper, and of each scheduler; None without schedulers.

    Raises:
        ResumeError: If one of them cannot go on.
    """
    old, settings = run['optimizer'], cfg.optim_wrapper
    if 'param_groups' not in old:
        raise ResumeError(f'the run has several optimizers ({", ".join(map(str, old))}); only one can be grown')
    before = _optim_wrapper_of(run, settings)
    base = MODELS.build(_shrink(model_config(cfg)))
    base_optimizer = build_optim_wrapper(base, before).optimizer
    states = _states_by_name(old, base, base_optimizer)

    wrapper = build_optim_wrapper(model, _plain(settings))
    _scale_lr(wrapper, _lr_scale(old, base_optimizer))
    schedules = grow_schedules(cfg, run, wrapper)
    result = wrapper.state_dict()
    lists, parameters = position_lists(model), dict(model.named_parameters())
    result['state'] = {}
    for index, name in enumerate(_names(model, wrapper.optimizer)):
        state = states.get(_source(name, lists))
        if state is not None and _fits(state, parameters[name]):
            result['state'][index] = copy.deepcopy(state)  # no two parameters may share a moment
    _go_on_counting(old['param_groups'], result['param_groups'])
    _note_lost_gradients(run, before)
    if 'loss_scaler' in old and short_type(settings) == 'AmpOptimWrapper':
        result['loss_scaler'] = old['loss_scaler']
    kept, total = len(result['state']), sum(len(group['params']) for group in result['param_groups'])
    print_log(f'optimizer: state kept for {kept} parameters, none yet for {total - kept}', logger='current')
    return result, schedules


def _shrink(part: object) -> object:
    """The config of the base's model: that of the grown one, with a ScaleNet that adds nothing."""
    if isinstance(part, (list, tuple)):
        return type(part)(_shrink(entry) for entry in part)
    if not isinstance(part, dict):
        return part
    part = ConfigDict({key: _shrink(entry) for key, entry in part.items()})
    if short_type(part) in ('ScaleNet', 'ScaleNetDeiT', 'ScaleNetSwin'):
        parents = {'drop_path_rate', *(['depth'] if depth_is_its_parents(part) else [])}
        for key in {*EXPAND_ARGUMENTS, 'window_size', 'global_positions'} - parents:
            if key != 'window_size' or short_type(part) == 'ScaleNetDeiT':  # a Swin's is the parent's
                part.pop(key, None)
        part.update(scale=1, adapter=None)
    return part


def _optim_wrapper_of(run: dict, settings: ConfigDict) -> ConfigDict:
    """How the run's optimizer was built: that orders its parameters.

    The config in a checkpoint is Python. It is not run, only the numbers and names of ``optim_wrapper`` are read.
    """
    text = run['meta'].get('cfg')
    try:
        given = read_variable(text, 'optim_wrapper') if isinstance(text, str) else None
    except (SyntaxError, ValueError) as error:
        raise ResumeError(f'the config in the checkpoint cannot be read: {error}') from None
    given = settings if given is None else ConfigDict(given)
    result, wanted = _plain(given), _plain(settings)
    kinds = [short_type(part.get('optimizer') or {}) for part in (result, wanted)]
    if kinds[0] != kinds[1]:
        raise ResumeError(f'the run was trained with {kinds[0]}, whose state is of no use to the {kinds[1]} of the '
                         'grown config; give it the optimizer of the run, or start a new run with load_from')
    result.optimizer.type = wanted.optimizer.type
    if 'constructor' in result and not _is_constructor(result.constructor):
        raise ResumeError(f'the constructor of the run\'s optimizer, {result.constructor!r}, is not known here; it has '
                         'to be one of mmengine, mmpretrain, mmdet, mmseg or mmscalenet')
    return result


def _plain(settings: ConfigDict) -> ConfigDict:
    """Without mixed precision, which changes nothing in an optimizer's groups and may need a GPU to be built.

    And without ZeRO, whose gathered state is that of the optimizer inside, and which needs several processes.
    """
    if short_type(settings) not in ('', 'OptimWrapper', 'AmpOptimWrapper'):
        raise ResumeError(f'optim_wrapper.type={full_type(settings)!r} cannot be grown; OptimWrapper and '
                         'AmpOptimWrapper can')
    settings = copy.deepcopy(settings)
    for key in ('loss_scale', 'dtype', 'use_fp64'):
        settings.pop(key, None)
    settings.type = 'OptimWrapper'
    if short_type(optimizer := settings.get('optimizer') or {}) == 'ZeroRedundancyOptimizer':
        optimizer.type = optimizer.pop('optimizer_type')
        for key in ('process_group', 'parameters_as_bucket_view', 'overlap_with_ddp'):
            optimizer.pop(key, None)
    return settings


def _is_constructor(name: object) -> bool:
    """Whether a name from a file may be built: mmengine would import and call whatever a dotted one points to."""
    if not isinstance(name, str) or ('.' in name and name.split('.')[0] not in (*LIBRARIES, 'mmengine', 'mmscalenet')):
        return False
    with OPTIM_WRAPPER_CONSTRUCTORS.switch_scope_and_registry(None) as registry:  # the library's, as when it is built
        kind = registry.get(name)
    return isinstance(kind, type) and issubclass(kind, DefaultOptimWrapperConstructor)


def _names(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[str]:
    """The parameters' names in the order of the optimizer."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [names[id(parameter)] for group in optimizer.param_groups for parameter in group['params']]


def _states_by_name(old: dict, base: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, dict]:
    names = _names(base, optimizer)
    indices = [index for group in old['param_groups'] for index in group['params']]
    parameters = dict(base.named_parameters())
    states = {name: old['state'][index] for name, index in zip(names, indices, strict=False) if index in old['state']}
    wrong = [name for name, state in states.items() if not _fits(state, parameters[name])]
    reason = ''
    if len(names) != len(indices):
        reason = f'it is of {len(indices)} parameters, the base of the grown config has {len(names)} to train'
    elif wrong:
        reason = f'it is of other sizes than {wrong[0]}'
    if reason:
        raise ResumeError(f'the state of the run\'s optimizer does not fit: {reason}. Give the config of the run, with '
                         'nothing but the backbone grown, or start a new run with load_from')
    return states


def _fits(state: dict, parameter: nn.Parameter) -> bool:
    """Whether what is kept for each weight is kept for these: a sum over rows, as Adafactor's, has fewer dimensions."""
    return all(value.shape == parameter.shape for value in state.values()
               if isinstance(value, torch.Tensor) and value.dim() and value.dim() == parameter.dim())


def _source(name: str, lists: dict) -> str:
    """The parameter of the base that one of the grown model is a copy of; itself where it is shared or new."""
    for list_name, positions in lists.items():
        head, _, rest = name.removeprefix(f'{list_name}.').partition('.')
        if not name.startswith(f'{list_name}.'):
            continue
        if head.isdigit() and not positions.share:
            return f'{list_name}.{positions.layer_map[int(head)]}.{rest}'
        number, _, rest = rest.partition('.')
        own, _, leaf = rest.rpartition('.')
        if head == 'positions' and number.isdigit():
            norm = positions.positions[int(number)].saved_norms.get(own)
            return f'{list_name}.{positions.layer_map[int(number)]}.{norm}.{leaf}' if norm else name
    return name


def _go_on_counting(old: list[dict], new: list[dict]) -> None:
    """Copy what an optimizer has put into its groups while it was training, as the steps that Lamb and Adan count."""
    for key in old[0].keys() - new[0].keys():
        if key.startswith('initial_'):  # a schedule's
            continue
        if any(group.get(key) != old[0][key] for group in old):
            raise ResumeError(f'the groups of the run\'s optimizer differ in {key!r}, and which of the grown model has '
                             'which is not known; start a new run with load_from')
        for group in new:
            group[key] = old[0][key]


def _note_lost_gradients(run: dict, settings: ConfigDict) -> None:
    every = settings.get('accumulative_counts', 1)
    if gathered := run['meta']['iter'] % every:
        print_log(f'the run was {gathered} of {every} batches into a step, whose gradients are not kept: the first '
                  f'step of the grown run has those of {every - gathered}. At a multiple of {every} iterations nothing '
                  'is lost.', logger='current', level=logging.WARNING)


def _lr_scale(old: dict, optimizer: torch.optim.Optimizer) -> float:
    """What ``auto_scale_lr`` made of the learning rates of the run."""
    for before, built in zip(old['param_groups'], optimizer.param_groups, strict=False):
        if built['lr']:
            return before.get('initial_lr', before['lr']) / built['lr']
    return 1.


def _scale_lr(wrapper: OptimWrapper, scale: float) -> None:
    if abs(scale - 1) > 1e-9:
        print_log(f'optimizer: learning rates times {scale:g}, as in the run', logger='current')
        for group in wrapper.optimizer.param_groups:
            group['lr'] *= scale
