"""What a run came to at each evaluation, in one small file."""
import json
import time
from pathlib import Path

from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner

from mmscalenet.registry import HOOKS

from ..files import whole_file


@HOOKS.register_module()
class CurveHook(Hook):
    """Writes ``curve.jsonl`` into the work directory: a line an evaluation, one before the first step included.

    Each has the step, all metrics, ``train_loss`` (mean since the evaluation before), ``wall`` and ``cpu`` (seconds of
    training and evaluation; of a resumed run those up to its checkpoint are added) and ``peak_memory`` (bytes of the
    process, None where the system does not say).
    """
    priority = 'VERY_LOW'  # after what changes the weights for an evaluation, or its metrics

    def before_train(self, runner: Runner) -> None:
        self.file = Path(runner.work_dir) / 'curve.jsonl'
        known = read_lines(self.file) if runner._resume else []
        # what the broken part of a run saw after its last checkpoint is seen again
        self.lines = [line for line in known if line['step'] <= runner.iter]
        last = self.lines[-1] if self.lines else dict(wall=0., cpu=0.)
        self.wall, self.cpu = time.perf_counter() - last['wall'], time.process_time() - last['cpu']
        # a kill may have fallen between a checkpoint and the evaluation at the same step
        length = 1 if isinstance(runner.train_loop, IterBasedTrainLoop) else len(runner.train_dataloader)
        if not self.lines or runner.iter % (length * runner.train_loop.val_interval) == 0:
            self._evaluate(runner)

    def after_train(self, runner: Runner) -> None:
        self._evaluate(runner)

    def _evaluate(self, runner: Runner) -> None:
        if runner.val_loop is not None and (not self.lines or self.lines[-1]['step'] != runner.iter):
            runner.val_loop.run()

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        hub = runner.message_hub
        steps = runner.iter - (self.lines[-1]['step'] if self.lines else runner.iter)
        self.lines.append(dict(
            step=runner.iter, **metrics, train_loss=hub.get_scalar('train/loss').mean(steps) if steps else None,
            wall=time.perf_counter() - self.wall, cpu=time.process_time() - self.cpu, peak_memory=peak_memory()))
        with whole_file(self.file) as path:
            # metrics may be numpy's
            path.write_text(''.join(f'{json.dumps(line, default=float)}\n' for line in self.lines))


def read_lines(path: Path) -> list[dict]:
    """The records of a file of JSON lines; none if there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def peak_memory() -> int | None:
    """The most memory this process has had, in bytes, where Linux tells it."""
    status = Path('/proc/self/status')
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith('VmHWM')), None)
