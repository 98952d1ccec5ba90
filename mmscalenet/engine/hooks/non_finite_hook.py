"""Where in a net the first NaN or infinity appeared."""
from collections.abc import Callable

import torch
from mmengine.dist import all_gather_object, all_reduce, get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from mmscalenet.expansion import Position
from mmscalenet.registry import HOOKS

from ..errors import UsageError
from ..model_of import model_of

CURE = ('Start from the last checkpoint with a lower learning rate or a longer warmup, with gradients clipped '
        '(optim_wrapper.clip_grad), or in bfloat16 or float32 where it is float16.')


@HOOKS.register_module()
class NonFiniteHook(Hook):
    """Ends a training at its first NaN or infinity, and says at which position of the net, and where, it appeared.

    Looks at the largest magnitude of what enters and leaves every position, of the gradient at what leaves it, of the
    losses, and, after the step, of the parameters. A gradient alone ends nothing, as a float16 run skips such steps; if
    it went into the parameters it is named. Off unless it is listed. It costs a number for every position and
    parameter, and a wait for the device at the end of every iteration.

    Raises:
        UsageError: In all processes, naming iteration, process and position, and what to do.

    Example:
        >>> custom_hooks = [dict(type='mmscalenet.NonFiniteHook')]
    """
    priority = 'VERY_HIGH'  # before a checkpoint of this iteration is written

    def before_train(self, runner: Runner) -> None:
        self.model = model = model_of(runner)
        self.positions = {name.replace('_fsdp_wrapped_module.', ''): module
                          for name, module in model.named_modules() if isinstance(module, Position)}
        if not self.positions:
            raise UsageError(f'NonFiniteHook: {type(model).__name__} has no expanded backbone, whose positions it '
                             "could name; give it one of type='mmscalenet.ScaleNet' (ScaleNetDeiT, ScaleNetSwin), or "
                             'leave the hook out.')
        self._forget()
        self.handles = [module.register_forward_hook(self._watcher(name)) for name, module in self.positions.items()]

    def _forget(self) -> None:
        #: (position, 'input' or 'output', largest magnitude) in the order of the forward pass.
        self.forward: list[tuple[str, str, Tensor]] = []
        #: Position -> largest magnitude of the gradient at its output, in the order of the backward pass.
        self.backward: dict[str, Tensor] = {}

    def _watcher(self, name: str) -> Callable:
        def watch(position: nn.Module, inputs: tuple, output: Tensor | tuple) -> None:
            if not position.training:
                return
            out = _first(output)
            self.forward += [(name, 'input', _largest(_first(inputs))), (name, 'output', _largest(out))]
            if out.requires_grad:
                out.register_hook(lambda grad: self.backward.update({name: _largest(grad)}))

        return watch

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None,
                         outputs: dict | None = None) -> None:
        losses = {name: _largest(value) for name, value in (outputs or {}).items() if isinstance(value, Tensor)}
        parameters = {name: _largest(value) for name, value in self.model.named_parameters() if value.numel()}
        values = [*(value for *_, value in self.forward), *losses.values(), *parameters.values()]
        broken = (~torch.stack([value.float() for value in values]).isfinite().all()).int()
        all_reduce(broken, 'max')
        if broken:
            findings = all_gather_object(self._finding(losses, parameters))
            self._log_largest(runner)
            # what was reduced over the processes is broken in all of them: it is where it came first
            (_, finding), rank = min((finding, rank) for rank, finding in enumerate(findings) if finding)
            raise UsageError(f'NonFiniteHook: iteration {runner.iter + 1}, process {rank}: {finding}. {CURE}')
        self._forget()

    def after_train(self, runner: Runner) -> None:
        for handle in self.handles:
            handle.remove()

    def _finding(self, losses: dict[str, Tensor], parameters: dict[str, Tensor]) -> tuple[int, str] | None:
        """How late in an iteration it came, and what came first, in words; None if all is finite in this process."""
        for name, side, value in self.forward:
            if not value.isfinite():
                if side == 'input' and name == self.forward[0][0]:
                    return 0, (f'{value:g} in the input of the first position, {name}: it comes from the data or the '
                               'stem')
                where = 'before it, behind the position before' if side == 'input' else 'in it'
                return 0, f'{value:g} at the {side} of {self._named(name)}: the first one appeared {where}'
        for name, value in losses.items():
            if not value.isfinite():
                return 0, f'{name} is {value:g}, and all positions are finite: it appeared behind them, in neck or head'
        wrong = next((name for name, value in parameters.items() if not value.isfinite()), None)
        if wrong is None:
            return None
        for name, value in self.backward.items():
            if not value.isfinite():
                return 1, (f'the parameter {wrong} after the step; forward pass and loss are finite, and the gradient '
                           f'is {value:g} first, from behind, at the output of {self._named(name)}')
        return 2, (f'the parameter {wrong} after the step; forward pass, loss and the gradients at all positions '
                   'are finite')

    def _named(self, name: str) -> str:
        return f'{name} (it runs block {self.positions[name].place[1]})'

    def _log_largest(self, runner: Runner) -> None:
        """What the last forward and backward pass held, for whom wants to see it coming."""
        grads = {name: value.item() for name, value in self.backward.items()}
        lines = [f'{name}: output {value:.3g}, its gradient {grads.get(name, float("nan")):.3g}'
                 for name, side, value in self.forward if side == 'output']
        runner.logger.error('\n'.join([f'NonFiniteHook: largest magnitudes in process {get_rank()}', *lines]))


def _first(value: Tensor | tuple) -> Tensor:
    return value[0] if isinstance(value, (tuple, list)) else value


def _largest(value: Tensor) -> Tensor:
    """The largest magnitude, NaN where one is."""
    return torch.linalg.vector_norm(value.detach().float(), torch.inf)
