"""Grow a small transformer on real images and see whether that pays.

On Fashion-MNIST: trains a base; grows it to twice its depth with ScaleNet and trains that for a third of the base's
epochs; trains the same depth from scratch; and trains the base on for as many epochs as the grown model, since more
epochs help without growing, too. Prints one table and draws the curves. What is finished is used again at the next
call, as long as its config and the checkpoint it started from are the same.
"""
import argparse
import hashlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

from mmengine.config import Config
from mmengine.logging import MMLogger

from mmscalenet.engine import whole_file

TOOLS = Path(__file__).resolve().parent
ROOT = TOOLS.parent
sys.path += [str(TOOLS / 'analysis_tools'), str(TOOLS / 'dataset_converters')]

BASE, GROWN, TRAINED_ON, TWIN = 'base', 'ScaleNet x2', 'base, trained on', 'from scratch'
TEST_IMAGES = 10000
NAMES = {'deit': 'DeiT', 'swin': 'Swin'}
#: Backbone -> run -> config.
CONFIGS = {
    'deit': {
        BASE: 'deit-mini_9e_fashion-mnist.py',
        GROWN: 'scalenet-deit-mini-x2_3e_fashion-mnist.py',
        TRAINED_ON: 'deit-mini_trained-on-3e_fashion-mnist.py',
        TWIN: 'deit-mini-depth8_scratch-9e_fashion-mnist.py',
    },
    'swin': {
        BASE: 'swin-mini_9e_fashion-mnist.py',
        GROWN: 'scalenet-swin-mini-x2_3e_fashion-mnist.py',
        TRAINED_ON: 'swin-mini_trained-on-3e_fashion-mnist.py',
        TWIN: 'swin-mini-depth12_scratch-9e_fashion-mnist.py',
    },
}


@dataclass
class Result:
    """What one run came to. ``epochs``, ``seconds`` and ``top1`` are the curve, one value after each epoch.

    ``seconds`` counts training alone: neither the start of the process nor the evaluations.
    """
    name: str
    config: str
    digest: str
    checkpoint: str = ''
    checkpoint_sha256: str = ''
    epochs: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    top1: list[float] = field(default_factory=list)


def sha256(path: str | Path) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


class Demo:
    """The runs, their folder, and the processes that are at work."""

    def __init__(self, backbone: str, work_dir: Path, options: dict) -> None:
        self.configs = {name: ROOT / 'configs/fashion' / file for name, file in CONFIGS[backbone].items()}
        self.work_dir = work_dir
        self.options = options
        self.processes: list[subprocess.Popen] = []
        self.stopped = threading.Event()

    def run_all(self) -> dict[str, Result]:
        """Trains the base and what starts from it beside the twin, each on a core of its own if there are two."""
        with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
            chains = [pool.submit(self.base_and_heirs), pool.submit(lambda: [self.run(TWIN)])]
            try:
                return {result.name: result for chain in chains for result in chain.result()}
            finally:  # on an error or Ctrl-C nothing goes on in the background
                self.stopped.set()
                for process in self.processes:
                    process.terminate()

    def base_and_heirs(self) -> list[Result]:
        base = self.run(BASE)
        return [base, *(self.run(name, start=base) for name in (GROWN, TRAINED_ON))]

    def config(self, name: str, start: Result | None = None) -> Config:
        """The config of a run as it is trained."""
        cfg = Config.fromfile(self.configs[name])
        cfg.merge_from_dict(self.options)
        if start is not None:
            for part in ('backbone', 'head'):
                cfg.merge_from_dict({f'model.{part}.init_cfg.checkpoint': start.checkpoint})
        return cfg

    def run(self, name: str, start: Result | None = None) -> Result:
        """Trains one config, or takes the result of an earlier call that trained the same from the same."""
        cfg = self.config(name, start)
        digest = hashlib.sha256((cfg.pretty_text + (start.checkpoint_sha256 if start else '')).encode()).hexdigest()
        folder = self.work_dir / self.configs[name].stem
        record = folder / 'result.json'
        if record.exists():
            result = Result(**json.loads(record.read_text()))
            checkpoint = Path(result.checkpoint)
            if result.digest == digest and checkpoint.exists() and sha256(checkpoint) == result.checkpoint_sha256:
                self.say(name, f'finished earlier, top-1 {result.top1[-1]:.2f} %')
                return result
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        result = Result(name, str(self.configs[name].relative_to(ROOT)), digest)
        self.train(cfg, folder, result)
        result.checkpoint = str(folder / f'epoch_{cfg.train_cfg.max_epochs}.pth')
        result.checkpoint_sha256 = sha256(result.checkpoint)
        with whole_file(record) as path:
            path.write_text(json.dumps(asdict(result), indent=2))
        return result

    def train(self, cfg: Config, folder: Path, result: Result) -> None:
        """Runs tools/train.py in a process of its own and follows it, one line an epoch."""
        if self.stopped.is_set():
            raise SystemExit('stopped')
        cfg.dump(folder / 'as_run.py')
        self.say(result.name, f'{result.config}: {cfg.train_cfg.max_epochs} epochs')
        with open(folder / 'train.log', 'w') as log:
            process = subprocess.Popen(
                [sys.executable, str(TOOLS / 'train.py'), str(folder / 'as_run.py'), '--work-dir', str(folder)],
                # one thread each: two processes whose threads wait for each other are several times slower
                env=os.environ | {'OMP_NUM_THREADS': '1'}, stdout=log, stderr=subprocess.STDOUT)
        self.processes.append(process)
        for loss in self.follow(process, folder, result):
            self.say(result.name, f'epoch {result.epochs[-1]:2d}/{cfg.train_cfg.max_epochs}   loss {loss:.3f}   '
                     f'top-1 {result.top1[-1]:5.2f} %   {result.seconds[-1]:4.0f} s')
        if process.returncode or not result.epochs:
            log = folder / 'train.log'
            end = '\n'.join(log.read_text().splitlines()[-15:])
            raise SystemExit(f'error: the training of "{result.name}" failed. The end of {log}:\n{end}')

    @staticmethod
    def follow(process: subprocess.Popen, folder: Path, result: Result) -> Iterator[float]:
        """Adds to the curve what the runner logs, and yields the loss after each evaluation."""
        seen, train, iterations = 0, {}, 0
        while True:
            running = process.poll() is None
            log = next(folder.glob('*/vis_data/scalars.json'), None)
            text = log.read_text() if log else ''
            lines = text[:text.rfind('\n') + 1].splitlines()
            for line in lines[seen:]:
                record = json.loads(line)
                if 'accuracy/top1' not in record:
                    train = record
                    continue
                # "time" is the mean of the epoch so far
                seconds = train['time'] * (train['step'] - iterations)
                iterations = train['step']
                result.epochs.append(record['step'])
                result.seconds.append(seconds + (result.seconds[-1] if result.seconds else 0))
                result.top1.append(record['accuracy/top1'])
                yield train['loss']
            seen = len(lines)
            if not running:
                return
            time.sleep(0.5)

    @staticmethod
    def say(name: str, text: str) -> None:
        print(f'{name:<16}  {text}', flush=True)


def make_table(demo: Demo, results: dict[str, Result]) -> str:
    """One row a model, in markdown."""
    from get_flops import build, count_multiply_adds, table

    rows = []
    for name, result in results.items():
        cfg = demo.config(name)
        model = build(cfg)
        image = (cfg.model.backbone.in_channels, cfg.model.backbone.img_size, cfg.model.backbone.img_size)
        before = results[BASE] if name in (GROWN, TRAINED_ON) else None
        rows.append({
            'model': name,
            'parameters': f'{sum(p.numel() for p in model.parameters()):,}',
            'multiply-adds (M)': f'{count_multiply_adds(model, image) / 1e6:.2f}',
            'epochs': (f'{before.epochs[-1]} + ' if before else '') + str(result.epochs[-1]),
            'training (s)': (f'{before.seconds[-1]:.0f} + ' if before else '') + f'{result.seconds[-1]:.0f}',
            'top-1 (%)': f'{result.top1[-1]:.2f}',
        })
    return table(rows)


def compare(results: dict[str, Result]) -> str:
    """What the table says of growing, and how far chance alone could move it."""
    grown, twin, trained_on = (results[name].top1[-1] for name in (GROWN, TWIN, TRAINED_ON))
    error = math.sqrt(grown * (100 - grown) / TEST_IMAGES)
    return (f'{GROWN} against the same depth from scratch: {grown - twin:+.2f} points; against the base trained on: '
            f'{grown - trained_on:+.2f} points.\nOne run each. The standard error of one such top-1 on {TEST_IMAGES:,} '
            f'images is {error:.2f} points, and seeds differ beside.')


def draw(results: dict[str, Result], title: str, path: Path) -> None:
    """Draws top-1 over epochs and over seconds; what starts from the base starts where the base ends."""
    import matplotlib
    matplotlib.use('Agg')
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(11, 4.5), sharey=True, layout='constrained')
    for panel, axis, label in zip(panels, ('epochs', 'seconds'), ('epochs', 'seconds of training'), strict=True):
        for name, style in ((BASE, 'k-o'), (TRAINED_ON, 'k--s'), (GROWN, 'C3-o'), (TWIN, 'C0-^')):
            x, y = getattr(results[name], axis), results[name].top1
            if name in (GROWN, TRAINED_ON):
                base = getattr(results[BASE], axis)
                x = [base[-1], *(base[-1] + value for value in x)]
                y = [results[BASE].top1[-1], *y]
            panel.plot(x, y, style, label=name, markersize=4)
        panel.set_xlabel(f'{label}, those of the base included')
        panel.grid(alpha=0.3)
    tops = [value for result in results.values() for value in result.top1]
    panels[0].set_ylim(bottom=max(min(tops), max(tops) - 20) - 1)
    panels[0].set_ylabel(f'top-1 on the {TEST_IMAGES:,} test images (%)')
    panels[0].legend(loc='lower right')
    figure.suptitle(title)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def positive(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text} is not allowed, give 1 or more')
    return int(text)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--backbone', choices=list(CONFIGS), default='deit')
    parser.add_argument('--images', type=positive, help='training images of an epoch; default: as the configs say')
    parser.add_argument('--data', default='data/fashion_mnist', help='folder of the data, prepared if it is missing')
    parser.add_argument('--work-dir', default='work_dirs/demo', help='default: %(default)s')
    return parser.parse_args()


def stop(*_: object) -> None:
    """On SIGTERM the trainings end, too, as on Ctrl-C; a second signal ends the process at once."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sys.exit('stopped')


def main() -> None:
    from prepare_fashion_mnist import prepare

    args = parse_args()
    signal.signal(signal.SIGTERM, stop)
    start = time.time()
    try:
        data = prepare(args.data)
    except OSError as error:
        raise SystemExit(f'error: {error}') from error
    options = {f'{split}_dataloader.dataset.data_root': str(data) for split in ('train', 'val', 'test')}
    if args.images:
        options['train_dataloader.dataset.indices'] = args.images
    MMLogger.get_instance('demo', log_level='WARNING')  # of the models in the table only their figures are of interest
    demo = Demo(args.backbone, Path(args.work_dir), options)
    results = demo.run_all()

    text = make_table(demo, results)
    print(f'\n{text}\n\n{compare(results)}')
    picture, record = demo.work_dir / 'curves.png', demo.work_dir / 'results.json'
    draw(results, f'Fashion-MNIST: a small {NAMES[args.backbone]} grown to twice its depth', picture)
    record.write_text(json.dumps({name: asdict(result) for name, result in results.items()}, indent=2))
    (demo.work_dir / 'table.md').write_text(f'{text}\n')
    print(f'Curves: {picture}; figures: {record}; {time.time() - start:.0f} s in all.')


if __name__ == '__main__':
    main()
