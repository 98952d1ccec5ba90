"""Grow a small transformer on real images and see whether that pays.

A DeiT of one block learns to name garments before photographs. At 70 % of its budget it goes on in four ways, each for
the same FLOPs: as it is; with its block run twice, *shared*; the same as a *ScaleNet*, with an adapter at each
position; with a copy of its block, *stacked*. Prints one table and draws the curves. What is finished is not run again
at the next call, and what was stopped goes on.
"""
import argparse
import math
import os
import signal
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent))

import figures  # noqa: E402
import lines  # noqa: E402
import torch  # noqa: E402
from compare import Arms  # noqa: E402
from grids import GRIDS  # noqa: E402
from inputs import prepare_inputs  # noqa: E402
from mmengine.logging import MMLogger  # noqa: E402
from report import markdown  # noqa: E402
from run import Study, stop  # noqa: E402

from mmscalenet.engine import UsageError, one_line_errors, whole_file  # noqa: E402

GRID = 'demo'
NAMES = dict(base='base, trained on')
TEST_IMAGES = 10000


def make_table(records: list[dict]) -> str:
    """One row an arm, in markdown."""
    rows = [['model', 'parameters', 'steps', 'training FLOPs (10^12)', 'test loss', 'top-1 (%)']]
    for record in records:
        last, steps = record['curve'][-1], [phase['steps'] for phase in record['phases']]
        rows.append([NAMES.get(record['arm'], record['arm']), f'{record["parameters"]:,}',
                     ' + '.join(f'{count:,}' for count in steps), f'{record["train_flops"] / 1e12:.2f}',
                     f'{last["test_loss"]:.3f}', f'{last["top1"]:.2f}'])
    return markdown(rows)


def compare(records: list[dict]) -> str:
    """What the table says of growing, and how far chance alone could move it."""
    top1 = {record['arm']: record['curve'][-1]['top1'] for record in records}
    gains = ', '.join(f'{arm} {value - top1["base"]:+.2f}' for arm, value in top1.items() if arm != 'base')
    error = math.sqrt(top1['base'] * (100 - top1['base']) / TEST_IMAGES)
    return (f'Points of top-1 against the base trained on for the same FLOPs: {gains}.\nOne run each. The standard '
            f'error of one such top-1 on {TEST_IMAGES:,} images is {error:.2f} points, and seeds differ beside.')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data', default='data/fashion_mnist', help='folder of the data, prepared if it is missing')
    parser.add_argument('--work-dir', default='work_dirs/demo', help='default: %(default)s')
    return parser.parse_args()


@one_line_errors
def main() -> None:
    args, start = parse_args(), time.time()
    torch.set_num_threads(1)  # the trainings need the cores
    MMLogger.get_instance('demo', log_level='ERROR')  # of the models that are counted, only the figures are wanted
    signal.signal(signal.SIGTERM, stop)
    folder = Path(args.work_dir).resolve()
    runs = GRIDS[GRID]()
    study = Study(runs, folder, prepare_inputs(runs, Path(args.data).resolve()), folder, say_every=20.)
    study.work(min(2, os.cpu_count() or 1))
    if study.failed:
        raise UsageError(f'{len(study.failed)} trainings failed: {", ".join(run.name for run in study.failed)}; their '
                         'logs end above.')
    records = lines.read(study.file(GRID))
    text = make_table(records)
    print(f'\n{text}\n\n{compare(records)}')
    with whole_file(folder / 'curves.png') as path:
        figures.curves(Arms(records), GRID, path)
    (folder / 'table.md').write_text(f'{text}\n')
    print(f'Curves: {folder / "curves.png"}; figures: {study.file(GRID)}; {time.time() - start:.0f} s in all.')


if __name__ == '__main__':
    main()
