"""The weights that a run starts from, in the names and sizes of its backbone."""
from collections.abc import Callable, Iterable

from mmengine.dist import broadcast
from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor, nn

from mmscalenet.checkpoints import CheckpointError, load_content
from mmscalenet.checkpoints.errors import some
from mmscalenet.checkpoints.formats import state_dict_in
from mmscalenet.checkpoints.growth_notes import depth_noted, is_before_growth
from mmscalenet.checkpoints.renaming import without_wrappers
from mmscalenet.checkpoints.values import check_kinds, check_values
from mmscalenet.expansion import position_lists
from mmscalenet.models.backbones.scalenet import ScaleNet

from ..depth import keep_depth, take_depth
from ..model_of import model_of
from .depth_hook import DepthHook


class StartWeightsHook(Hook):
    """``load_from`` and tools/test.py take for a ScaleNet what its ``init_cfg`` takes, and refuse what that refuses.

    mmengine copies the tensors whose names and shapes agree, warns of the others and goes on, with a backbone of random
    weights if it comes to that. Heads are still loaded so, as fine-tuning on other classes needs it; for a test every
    weight has to be there, but for adapters and gates: a base may be tested as the grown model that it starts. A
    checkpoint notes at which depth its backbone ran, and is tested at it. What ``--resume`` loads has to be of the same
    backbone, and stays as it is.

    Args:
        testing (bool): Whether the model is tested as it is loaded. Defaults to False.

    Raises:
        CheckpointError: If what is in the checkpoint does not fit.
    """
    priority = 'VERY_HIGH'  # before EMAHook, which copies the weights

    def __init__(self, testing: bool = False) -> None:
        self.testing = testing

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        keep_depth(model_of(runner), checkpoint)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        model = runner.model
        while is_model_wrapper(model) or isinstance(model, BaseTTAModel):  # mmengine loads into what is inside as well
            model = model.module
        if runner._resume:
            if 'meta' not in checkpoint:
                raise CheckpointError(f'{runner._load_from} holds weights alone, and no run that could be resumed. To '
                                      'start a new run from them give it as load_from')
            state = _plain_state(checkpoint)
            _check_resumed(model, _backbones(model), state)
            if not any(isinstance(hook, DepthHook) for hook in runner.hooks):
                _check_growth(model, checkpoint)
            _check(state, model, runner._load_from, check_kinds)
            return
        state = fit_weights(model, checkpoint, runner._load_from)
        for key in state:
            if '.positions.' in key:  # started anew, in each process as its random numbers are
                broadcast(state[key])
        if self.testing:
            load_whole(model, state, runner._load_from)
            take_depth(model, checkpoint)
        checkpoint['state_dict'] = state


def fit_weights(model: nn.Module, checkpoint: dict, source: str) -> dict[str, Tensor]:
    """The weights in a checkpoint in the names and sizes of the model's ScaleNets, into which they are loaded.

    Args:
        model (nn.Module): The model.
        checkpoint (dict): What the file holds.
        source (str): The name that it goes by in messages.

    Returns:
        dict[str, Tensor]: All of the ScaleNets, and what the file holds of the rest.

    Raises:
        CheckpointError: If what is in the checkpoint does not fit.
    """
    state = _plain_state(checkpoint)
    for name, module in _backbones(model).items():
        if len(_kept(model, name)) < len(module.state_dict()):
            continue  # mmpretrain's LoRAModel keeps its own tensors alone, and loads the backbone at its start
        part = {key: value for key, value in state.items() if key.startswith(f'{name}.')}
        if part:
            notes = {key: checkpoint.get(key) for key in ('message_hub', 'meta')}
            load_content(module, dict(state_dict=part, **notes), source, name)
            state = {key: value for key, value in state.items() if key not in part}
        else:  # the file of a backbone alone, or of a model that has another name for it
            prefix = without_wrappers(load_content(module, checkpoint, source).prefix)
            if prefix and name.endswith(f'.{prefix}'[:-1]):
                # that of a part of this model, which puts its own prefix in front: a detector for SoftTeacher
                state = {key: value for key, value in state.items() if not key.startswith(prefix)}
                name = prefix[:-1]
            else:
                state = {key: value for key, value in state.items() if key in model.state_dict()}
        state.update((f'{name}.{key}', value) for key, value in module.state_dict().items())
    _check(state, model, source, check_values)
    return state


def load_whole(model: nn.Module, state: dict, source: str) -> None:
    """Load the weights of all of the model, of which only what positions own may be missing.

    Raises:
        CheckpointError: If more is missing, has another size, or is of a grown model where this one is not.
    """
    try:
        result = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise CheckpointError(f'{source} does not fit the config: {error}') from None
    parameters = dict(model.named_parameters())
    lacking = [key for key in result.missing_keys if key in parameters and '.positions.' not in key]
    grown = [key for key in result.unexpected_keys if '.positions.' in key]
    if lacking or grown:
        raise CheckpointError('. '.join(
            [f'{source} does not fit the config'] + [f'It lacks {some(lacking)}'] * bool(lacking)
            + [f'It is of a grown model, and the config has no place for {some(grown)}'] * bool(grown)
            + ['Give the config it was trained with']))


def _check(state: dict[str, Tensor], model: nn.Module, source: str, check: Callable) -> None:
    """Of what mmengine will load: it leaves out what has another name or shape."""
    ours = model.state_dict()
    fitting = {name: value for name, value in state.items()
               if name in ours and isinstance(value, Tensor) and value.shape == ours[name].shape}
    try:
        check(fitting, ours)
    except CheckpointError as error:
        raise CheckpointError(f'{source}: {error}') from None


def _plain_state(checkpoint: dict) -> dict[str, Tensor]:
    return {without_wrappers(str(name)): value for name, value in state_dict_in(checkpoint).items()}


def _backbones(model: nn.Module) -> dict[str, ScaleNet]:
    return {name: module for name, module in model.named_modules() if isinstance(module, ScaleNet)}


def _kept(model: nn.Module, name: str) -> dict[str, Tensor]:
    """What a checkpoint of ``model`` holds of its part ``name``."""
    return {key: value for key, value in model.state_dict().items() if key.startswith(f'{name}.')}


def _check_growth(model: nn.Module, checkpoint: dict) -> None:
    """Of a run without DepthHook, which would start what has not been trained when it lets it run."""
    lost = is_before_growth(checkpoint)
    for name, backbone in _backbones(model).items():
        lists = list(position_lists(backbone).values())
        depths = depth_noted(checkpoint, name)
        if not lost and (depths is None or len(depths) != len(lists) or not any(
                positions.owns_beyond(depth) for positions, depth in zip(lists, depths, strict=True))):
            continue
        raise CheckpointError(
            f'the checkpoint to resume from is of a run whose {name} ' + (
                'grows later, by a DepthHook, and the config has none: its custom_hooks take the place of those '
                'in its _base_. Give the hook back' if lost else
                f'ran at depth {depths}, and the config runs {backbone.active_depth}, with copies or norms that have '
                'not been trained. Give the depth of that run') + ', or start a new run with load_from')


def _check_resumed(model: nn.Module, backbones: Iterable[str], state: dict) -> None:
    """mmengine would load what agrees, and fail later, in the optimizer's first step at best."""
    for name in backbones:
        file, ours = ({key.removeprefix(f'{name}.'): value.shape for key, value in part.items()
                       if key.startswith(f'{name}.')} for part in (state, _kept(model, name)))
        other = sorted(key for key in {*file, *ours} if file.get(key) != ours.get(key))
        if other:
            raise CheckpointError(
                f'the checkpoint to resume from was written with another {name}: they differ in {some(other)}. Resume '
                'with the config of that run, as in its work directory, or start a new run with load_from')
