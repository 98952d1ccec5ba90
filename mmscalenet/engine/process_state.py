"""What a training process has of its own between two iterations, and no checkpoint of mmengine holds."""
import torch
from mmengine.hooks import EMAHook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from torch import Tensor

from .broken_data import parts_of
from .model_of import model_of


def optim_wrappers(runner: Runner) -> list[OptimWrapper]:
    wrapper = runner.optim_wrapper
    wrappers = wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]
    return [part for part in wrappers if isinstance(part, OptimWrapper)]


def is_within_step(runner: Runner) -> bool:
    """Whether gradients of a step of the optimizer have been gathered, and more are to come."""
    return any(wrapper._inner_count % wrapper._accumulative_counts and wrapper._inner_count != wrapper._max_counts
               for wrapper in optim_wrappers(runner))


def own_state(runner: Runner) -> dict[str, dict[str, Tensor]]:
    """The gradients of a step that is not complete and, of several processes, the running statistics of norms."""
    gradients = {}
    if is_within_step(runner):
        gradients = {name: parameter.grad.cpu() for name, parameter in model_of(runner).named_parameters()
                     if parameter.grad is not None}
    buffers = _buffers(runner) if runner.world_size > 1 else {}
    return dict(gradients=gradients, buffers={name: value.cpu() for name, value in buffers.items()})


def without_shared(states: list[dict]) -> list[dict]:
    """The states of all processes without buffers that are those of the first, which are among the weights."""
    first = states[0]['buffers']
    return [state | dict(buffers={name: value for name, value in state['buffers'].items()
                                  if value is not first[name] and not torch.equal(value, first[name])})
            for state in states]


def restore_own_state(runner: Runner, state: dict[str, dict[str, Tensor]]) -> None:
    """Put back what :func:`own_state` gave."""
    gradients, buffers = state['gradients'], _buffers(runner)
    pairs = [(parameter, gradients[name].to(parameter.device))
             for name, parameter in model_of(runner).named_parameters()
             if name in gradients and parameter.requires_grad]
    if pairs:  # not by .grad = ...: DistributedDataParallel has to note that the parameters were used
        torch.autograd.backward(*zip(*pairs, strict=True))
    for name, value in state['buffers'].items():
        if name in buffers:
            buffers[name].copy_(value)


def out_of_reach(runner: Runner) -> list[str]:
    """The names of parts that are known to keep in attributes what they drew, saw or counted before."""
    parts = [*runner.hooks, *model_of(runner).modules()]
    for dataset in parts_of(runner.train_dataloader.dataset):
        pipeline = getattr(dataset, 'pipeline', None)
        parts += getattr(pipeline, 'transforms', pipeline) or []
    return sorted({type(part).__name__ for part in parts if hasattr(part, 'results_cache')  # mmdet's CachedMosaic
                   or type(part).__name__ in ('EarlyStoppingHook', 'BatchSyncRandomResize')})


def _buffers(runner: Runner) -> dict[str, Tensor]:
    models = [model_of(runner), *(hook.ema_model for hook in runner.hooks if isinstance(hook, EMAHook))]
    return {f'{number}.{name}': value for number, model in enumerate(models) for name, value in model.named_buffers()
            if value.is_floating_point()}
