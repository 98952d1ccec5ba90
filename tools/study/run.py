"""Run the trainings of a study: one line each in docs/results/growth/lines/GRID.jsonl.

    python tools/study/run.py t1_deit --list
    python tools/study/run.py t1_deit --jobs 2
    python tools/study/run.py t1_deit --only 'base_s0|gate-0_s0'

What is finished, as its line says, is not run again, and a training that was cut goes on from its last checkpoint: call
the same command again. A run whose parent's checkpoint is gone, as on another machine, has the parent trained first.
``--only`` takes a regular expression that is found in the names of the runs.
"""
import argparse
import re
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent))

import lines  # noqa: E402
import torch  # noqa: E402
from grids import GRIDS  # noqa: E402
from inputs import prepare_inputs  # noqa: E402
from metrics import in_words, measured  # noqa: E402
from mmengine.logging import MMLogger  # noqa: E402
from runs import ROOT, Run  # noqa: E402
from training import Training, commit  # noqa: E402

from mmscalenet.engine import UsageError, one_line_errors  # noqa: E402


class Study:
    """What is to be run, what is at work, and how long it will take.

    Args:
        runs (list[Run]): The runs in their order; parents that are needed are put before their children.
        work_dir (Path): Folder of checkpoints and logs.
        data (Path): Folder of the images.
        out (Path): Folder of the lines.
        say_every (float): Seconds between two words on a training. Defaults to 60.
    """

    def __init__(self, runs: list[Run], work_dir: Path, data: Path, out: Path, say_every: float = 60.) -> None:
        self.work_dir, self.data, self.out, self.say_every = work_dir, data, out, say_every
        #: By grid and digest.
        self.known = {(record['study'], record['digest']): record
                      for grid in {name for run in runs for name in (run.grid, run.trunk_grid)}
                      for record in lines.read(self.file(grid))}
        self.seconds_per_flop = [record['wall'] / own_flops(record) for record in self.known.values()]
        self.parents = {run.parent.digest for run in runs if run.parent}
        self.waiting: list[Run] = []
        for run in runs:
            if (run.grid, run.digest) not in self.known:
                self.add(run)
        self.total, self.failed = len(self.waiting), []
        self.active: dict[str, Training] = {}
        self.left: dict[str, float] = {}
        self.changed, self.stopped = threading.Condition(), False

    def file(self, grid: str) -> Path:
        return self.out / f'{grid}.jsonl'

    def training(self, run: Run) -> Training:
        return Training(run, self.work_dir, self.data)

    def add(self, run: Run) -> None:
        if run.parent and not self.training(run.parent).has(run.start):
            self.add(run.parent)
        if run.digest not in {other.digest for other in self.waiting}:
            self.waiting.append(run)

    def next(self) -> Run | None:
        """The first run that can be begun; waits for one, None when nothing is left."""
        with self.changed:
            while self.waiting and not self.stopped:
                for run in self.waiting:
                    if run.parent is None or self.training(run.parent).has(run.start):
                        self.waiting.remove(run)
                        self.active[run.digest] = self.training(run)
                        return run
                if not self.active:  # their parents have failed
                    self.failed += self.waiting
                    self.waiting = []
                    break
                self.changed.wait(5)  # a fork may begin while its trunk still goes on
            self.changed.notify_all()
            return None

    def work(self, jobs: int) -> None:
        """Trains everything, ``jobs`` at a time."""
        with ThreadPoolExecutor(jobs) as pool:
            workers = [pool.submit(self.worker) for _ in range(jobs)]
            try:
                for worker in workers:
                    worker.result()
            finally:  # on an error or Ctrl-C nothing goes on in the background
                self.stop()

    def stop(self) -> None:
        self.stopped = True
        for training in list(self.active.values()):
            if training.process:
                training.process.terminate()

    def worker(self) -> None:
        while run := self.next():
            training = self.active[run.digest]
            try:
                with training.prepared():
                    self.train(training)
            finally:
                with self.changed:
                    self.active.pop(run.digest)
                    self.left.pop(run.digest, None)
                    self.changed.notify_all()

    def train(self, training: Training) -> None:
        run, code = training.run, commit()  # which may change while a study goes on
        if run.parent and self.has_other_weights(run.parent):
            self.failed.append(run)
            self.say(f'NOT RUN {run.name}: {run.parent.name} was trained again for it and came to other figures than '
                     f'in {self.file(run.parent.grid)}, as on another processor. The arms of a seed are compared on '
                     f'one trunk: take the lines of seed {run.seed} out of that file, and all are trained here.')
            return
        training.start()
        if self.stopped:  # it came between
            training.process.terminate()
        said = time.time()
        while training.process.poll() is None:
            time.sleep(0.2)
            if time.time() - said > self.say_every:
                said = time.time()
                self.say_progress(training)
        curve, new = training.curve(), (run.grid, run.digest) not in self.known
        ended = not training.process.returncode and curve and curve[-1]['step'] == run.end
        tests = training.test() if ended and new and not self.stopped else []
        if self.stopped:
            return
        if not ended or tests is None:
            self.failed.append(run)
            self.say(f'FAILED {run.name}; the end of {training.folder / "train.log"}:\n{training.log_end()}')
            return
        record = training.line(*code, tests)
        if new:  # else it was only needed once more for its checkpoints
            lines.append(self.file(run.grid), record)
            self.known[run.grid, run.digest] = record
        training.tidy(keep=run.digest in self.parents or run.parent is None)
        self.seconds_per_flop.append(record['wall'] / own_flops(record))
        self.say(f'{run.name}: {in_words(record["curve"][-1])}, {record["wall"] / 60:.1f} min')

    def has_other_weights(self, run: Run) -> bool:
        """Whether what was trained here, maybe once more, differs from the run's line by any evaluation."""
        recorded = {point['step']: point for point in self.known.get((run.grid, run.digest), dict(curve=[]))['curve']}
        return any(recorded[point['step']][key] != value for point in self.training(run).curve()
                   if point['step'] in recorded for key, value in measured(point).items())

    def say_progress(self, training: Training) -> None:
        run, curve = training.run, training.curve()
        if curve:
            step = training.step()
            self.left[run.digest] = (run.end - step) / (run.end - run.first)
            self.say(f'{run.name}: step {step} of {run.end}, {in_words(measured(curve[-1]))}')

    def say(self, text: str) -> None:
        done = self.total - len(self.waiting) - len(self.active)
        print(f'[{done}/{self.total}{self.time_left()}] {text}', flush=True)

    def time_left(self) -> str:
        if not self.seconds_per_flop:
            return ''
        flops = sum(own(run) for run in self.waiting)
        flops += sum(own(training.run) * self.left.get(digest, 1) for digest, training in self.active.items())
        recent = self.seconds_per_flop[-10:]
        hours = flops * sum(recent) / len(recent) / max(1, len(self.active)) / 3600
        return f', {hours:.1f} h left' if hours > 1 else f', {hours * 60:.0f} min left'


def own(run: Run) -> int:
    """Training FLOPs of a run without its parents'."""
    return run.flops_at(run.end) - run.flops_at(run.first)


def own_flops(record: dict) -> int:
    return record['phases'][-1]['train_flops']


def select(grid: str, only: str | None) -> list[Run]:
    """The runs of a grid.

    Raises:
        UsageError: If there is no such grid or run.
    """
    if grid not in GRIDS:
        raise UsageError(f'grid "{grid}" does not exist; there are {", ".join(GRIDS)} (tools/study/grids.py).')
    runs = [run for run in GRIDS[grid]() if re.search(only or '', run.name)]
    if not runs:
        raise UsageError(f'--only "{only}" fits no run of {grid}; --list shows their names.')
    return runs


def listing(runs: list[Run], out: Path) -> str:
    """A line a run: whether it is finished, its steps and what they cost."""
    finished = {record['digest'] for grid in {run.grid for run in runs} for record in lines.read(out / f'{grid}.jsonl')}
    rows = []
    for run in runs:
        origin = f'{run.parent.name} at {run.at:g}' if run.parent else 'scratch'
        rows.append(f'{"done" if run.digest in finished else "    "}  {run.name:<44} from {origin:<28} '
                    f'steps {run.first:>6} to {run.end:<6} {run.multiply_adds / 1e6:6.1f} M multiply-adds a step  '
                    f'{own(run) / 1e12:8.1f} TFLOPs  lr x {run.lr:g}')
    return '\n'.join(rows)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('grid', help=f'one of {", ".join(GRIDS)}')
    parser.add_argument('--jobs', type=int, choices=[1, 2], default=1, help='trainings side by side, a thread each')
    parser.add_argument('--only', help='regular expression for the names of the runs')
    parser.add_argument('--list', action='store_true', help='show the runs and end')
    parser.add_argument('--data', default=str(ROOT / 'data/fashion_mnist'), help='prepared if missing; default: '
                        'data/fashion_mnist')
    parser.add_argument('--work-dir', default=str(ROOT / 'work_dirs/study'), help='default: work_dirs/study')
    parser.add_argument('--out', default=str(lines.FOLDER), help='folder of the lines; default: docs/results/growth/'
                        'lines')
    return parser.parse_args()


def stop(*_: object) -> None:
    """On SIGTERM the trainings end, too, as on Ctrl-C; a second signal ends the process at once."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sys.exit('stopped')


@one_line_errors
def main() -> None:
    args = parse_args()
    torch.set_num_threads(1)  # the trainings need the cores
    MMLogger.get_instance('study', log_level='ERROR')  # of the models that are counted, only the figures are wanted
    runs, out = select(args.grid, args.only), Path(args.out)
    if args.list:
        print(listing(runs, out))
        return
    signal.signal(signal.SIGTERM, stop)
    study = Study(runs, Path(args.work_dir).resolve(), prepare_inputs(runs, Path(args.data).resolve()), out)
    study.work(args.jobs)
    if study.failed:
        raise UsageError(f'{len(study.failed)} runs failed: {", ".join(run.name for run in study.failed)}')


if __name__ == '__main__':
    main()
