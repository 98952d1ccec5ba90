"""One run of a study: tools/train.py in a process of its own, and the line that it comes to."""
import ctypes
import fcntl
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from metrics import measured
from mmengine.config import Config
from runs import ROOT, Run

from mmscalenet.engine import is_whole, last_whole_checkpoint, whole_file
from mmscalenet.engine.growing import grow_checkpoint
from mmscalenet.engine.hooks.curve_hook import read_lines

_ONE_AT_A_TIME = threading.Lock()
FASHION_MNIST = Path('data/fashion_mnist')  # as the configs call it


class Training:
    """A run in its folder ``work_dir/GRID/ARM_sSEED``.

    Args:
        run (Run): The run.
        work_dir (Path): Folder of all studies.
        data (Path): Folder of Fashion-MNIST.
    """

    def __init__(self, run: Run, work_dir: Path, data: Path) -> None:
        self.run, self.work_dir, self.data = run, work_dir, data
        self.folder = work_dir / run.grid / run.name
        self.process: subprocess.Popen | None = None

    def checkpoint(self, step: int) -> Path:
        return self.folder / f'iter_{step}.pth'

    def has(self, step: int) -> bool:
        """Whether the checkpoint of this step is there, and of this very run."""
        stamp = self.folder / 'digest'
        return stamp.exists() and stamp.read_text() == self.run.digest and is_whole(self.checkpoint(step))

    @contextmanager
    def prepared(self) -> Iterator[None]:
        """The folder, for this process alone: a training that outlived its runner must have ended first."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / '.lock', 'w') as self.lock:
            fcntl.flock(self.lock, fcntl.LOCK_EX)
            stamp = self.folder / 'digest'
            if not stamp.exists() or stamp.read_text() != self.run.digest:  # declared otherwise since
                for path in self.folder.iterdir():
                    if path.is_dir():
                        shutil.rmtree(path)
                    elif path.name != '.lock':
                        path.unlink()
                with whole_file(stamp) as path:
                    path.write_text(self.run.digest)
            yield

    def start(self) -> None:
        """Begins the training, or goes on from its last checkpoint."""
        cfg = self.run.train_config()
        for split in ('train', 'val', 'test'):
            dataset = cfg[f'{split}_dataloader'].dataset
            if Path(dataset.data_root) == FASHION_MNIST:
                dataset.data_root = str(self.data)
        resume = 'auto'
        if self.run.parent and last_whole_checkpoint(str(self.folder), cfg.default_hooks.checkpoint)[0] is None:
            parent = Training(self.run.parent, self.work_dir, self.data).checkpoint(self.run.start)
            if self.run.restart:
                cfg.load_from, resume = str(parent), None
            else:
                resume = str(self.grow(parent, cfg))
        cfg.dump(self.folder / 'as_run.py')
        self.process = self.call('train.py', self.folder, *(['--resume', resume] if resume else []))

    def call(self, tool: str, work_dir: Path, *arguments: object) -> subprocess.Popen:
        """Begins train.py or test.py with the config of this run."""
        command = [sys.executable, ROOT / 'tools' / tool, self.folder / 'as_run.py', *arguments, '--work-dir', work_dir]
        with open(self.folder / 'train.log', 'a') as log:
            return subprocess.Popen(
                [str(part) for part in command], stdout=log, stderr=subprocess.STDOUT, preexec_fn=die_with_parent,
                pass_fds=[self.lock.fileno()],  # which keeps the folder locked until the training itself has ended
                # one thread each: two processes whose threads wait for each other are several times slower
                env=os.environ | {'OMP_NUM_THREADS': '1', 'PYTHONPATH': os.pathsep.join(
                    [str(ROOT), *filter(None, [os.environ.get('PYTHONPATH')])])})

    def test(self) -> list[dict] | None:
        """What the finished net comes to at each depth at which it is to be tested; None if a test fails."""
        results = []
        for depth in self.run.tested_at:
            folder = self.folder / f'depth_{depth}'
            self.process = self.call('test.py', folder, self.checkpoint(self.run.end), '--depth', depth)
            if self.process.wait():
                return None
            evaluation = json.loads(max(folder.glob('*/*.json')).read_text())
            results.append(dict(depth=depth, multiply_adds=self.run.costs_at(depth)[0], **measured(evaluation)))
        return results

    def grow(self, parent: Path, cfg: Config) -> Path:
        """The parent's checkpoint as one of this run's model, with the moments and the count of iterations."""
        path = self.folder / 'start.pth'
        with _ONE_AT_A_TIME, whole_file(path) as temporary:  # torch's random state and mmengine's scope are global
            torch.save(grow_checkpoint(parent, cfg), temporary)
        return path

    def curve(self) -> list[dict]:
        return read_lines(self.folder / 'curve.jsonl')

    def step(self) -> int:
        """The last step that it has logged, else evaluated, since it began or went on."""
        logs = sorted(self.folder.glob('*/vis_data/scalars.json'))
        logged = re.findall(r'"step": (\d+)}$', logs[-1].read_text(), re.MULTILINE) if logs else []
        return max([self.run.first, *map(int, logged or [line['step'] for line in self.curve()[-1:]])])

    def log_end(self, lines: int = 12) -> str:
        return '\n'.join((self.folder / 'train.log').read_text().splitlines()[-lines:])

    def line(self, commit: str, dirty: bool, tests: list[dict]) -> dict:
        """The record of the finished run, with what ``test`` has given."""
        run, curve = self.run, self.curve()
        return dict(
            study=run.grid, arm=run.arm, family=run.family, seed=run.seed, config=run.config, options=run.options,
            parent=run.parent.name if run.parent else None, at=run.at, until=run.until, decay=run.decay,
            equal=run.equal, lr=run.lr, restart=run.restart, opponent=run.opponent,
            opponent_study=run.trunk_grid, digest=run.digest, commit=commit,
            dirty=dirty, torch=torch.__version__, machine=machine(), batch=run.batch, parameters=run.parameters,
            multiply_adds=run.multiply_adds, phases=run.phases, train_flops=run.flops_at(run.end),
            first_step=run.first, steps=run.end - run.first, wall=curve[-1]['wall'], cpu=curve[-1]['cpu'],
            peak_memory=max(line['peak_memory'] or 0 for line in curve) or None,
            curve=[dict(step=line['step'], flops=run.flops_at(line['step']), **measured(line),
                        train_loss=line['train_loss'], wall=line['wall']) for line in curve],
            **({'depths': tests} if tests else {}))

    def tidy(self, keep: bool) -> None:
        """Deletes what nobody needs once the line is written."""
        for path in self.folder.glob('start.pth' if keep else '*.pth'):
            path.unlink()


def die_with_parent() -> None:
    """In the new process: end with the runner, also where that is killed and can do nothing (Linux)."""
    if sys.platform == 'linux':
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def machine() -> str:
    """The processor's name."""
    info = Path('/proc/cpuinfo')
    names = [line.split(':')[1].strip() for line in info.read_text().splitlines() if line.startswith('model name')] \
        if info.exists() else []
    return names[0] if names else platform.processor()


def commit() -> tuple[str, bool]:
    """The code's commit, and whether what runs differs from it."""
    def git(*arguments: str) -> str:
        return subprocess.run(['git', '-C', str(ROOT), *arguments], capture_output=True, text=True).stdout.strip()

    return git('rev-parse', 'HEAD') or 'unknown', bool(git('status', '--porcelain', 'mmscalenet', 'tools', 'configs'))
