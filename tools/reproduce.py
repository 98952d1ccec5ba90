"""Train configs on Fashion data again, and compare what they come to with the figures that stand in them.

    python tools/reproduce.py configs/fashion/scalenet-deit-mini-x2_3e_fashion-mnist.py
    python tools/reproduce.py configs/fashion_scenes/*swin-nano*.py

Before a config come its data and those configs whose checkpoints it starts from. The checkpoints are left in
work_dirs/NAME, where configs look for them. A finished run is passed over, one that was stopped goes on from its last
checkpoint.
"""
import argparse
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path += [str(ROOT / 'tools/analysis_tools'), str(ROOT / 'tools/dataset_converters')]

from analyze_logs import read_log  # noqa: E402

from mmscalenet.engine import UsageError, one_line_errors, read_config  # noqa: E402

EXPECTED = re.compile(r'^# Expected: (\S+) ([\d.]+) \+- ([\d.]+)$', re.MULTILINE)


def expected(config: Path) -> dict[str, tuple[float, float]]:
    """Metric -> value and tolerance, in percent, as the config says on its top."""
    return {name: (float(value), float(tolerance)) for name, value, tolerance in EXPECTED.findall(config.read_text())}


def starts_from(config: Path) -> Iterator[Path]:
    """The configs whose checkpoints this one loads."""
    cfg = read_config(str(config))
    names = {path.parts[1] for path in (Path(cfg.get('load_from') or ''), Path(cfg.get('checkpoint') or ''))
             if path.parts[:1] == ('work_dirs', )}
    for name in sorted(names):
        yield next((ROOT / 'configs').rglob(f'{name}.py'))


def in_order(configs: list[Path]) -> list[Path]:
    """Each config once, behind those that it starts from."""
    order = {}
    for config in configs:
        order |= dict.fromkeys([*in_order(list(starts_from(config))), config])
    return list(order)


def prepare_data(config: Path) -> None:
    from prepare_fashion_mnist import prepare

    from mmscalenet.datasets.writing import write_fashion_scenes
    root = read_config(str(config)).train_dataloader.dataset.data_root
    if Path(root) not in (Path('data/fashion_mnist'), Path('data/fashion_scenes')):
        raise UsageError(f'{config.name} trains on "{root}": give configs of configs/fashion or '
                         'configs/fashion_scenes, whose data are made here.')
    fashion_mnist = prepare('data/fashion_mnist')
    if Path(root) == Path('data/fashion_scenes'):
        write_fashion_scenes(root, fashion_mnist)


def reproduce(config: Path) -> list[str]:
    """Train, and say what it came to; the figures outside of their tolerance."""
    prepare_data(config)
    command = [sys.executable, ROOT / 'tools/train.py', config, '--resume']
    if subprocess.run(command).returncode:
        raise UsageError(f'{config.name}: the training failed, see above.')
    log, missed = read_log(f'work_dirs/{config.stem}'), []
    for name, (value, tolerance) in expected(config).items():
        reached = log.curve(name)[1][-1] * (100 if name.startswith('coco/') else 1)
        line = f'{config.name}: {name} {reached:.2f}, expected {value} +- {tolerance}'
        print(line, flush=True)
        missed += [line] * (abs(reached - value) > tolerance)
    return missed


@one_line_errors
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('configs', nargs='+', type=Path, help='of configs/fashion or configs/fashion_scenes')
    missed = [line for config in in_order([path.resolve() for path in parser.parse_args().configs])
              for line in reproduce(config)]
    if missed:
        raise UsageError('outside of the tolerance: ' + '; '.join(missed))


if __name__ == '__main__':
    main()
