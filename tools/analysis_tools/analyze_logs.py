"""Curves and a table of what trainings logged, for configs of mmpretrain, mmdet and mmseg.

A log is a work directory, whose latest run is read, with the runs that it resumes; the folder of one run; or a
scalars.json, which LocalVisBackend writes. Validation is drawn at its epochs (at its iterations, where training does
not count epochs), all else at its iterations. The last line of a run that was killed may be cut off; it is passed over.

    python tools/analysis_tools/analyze_logs.py work_dirs/mask_rcnn_scalenet_swin --out curves.png
    python tools/analysis_tools/analyze_logs.py work_dirs/base work_dirs/grown --keys loss coco/bbox_mAP
"""
import argparse
import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path

from mmengine.config import Config

from mmscalenet.engine import UsageError, one_line_errors, whole_file
from mmscalenet.tables import align

SCALARS = Path('vis_data/scalars.json')
#: Fields that say where a record belongs; 'after' is ours.
PLACE = ('epoch', 'iter', 'step', 'after')
#: Names of what is best where it is least.
FALLING = re.compile(r'loss|time|entropy|error|perplexity|\b(mae|mse|rmse|nll)\b', re.IGNORECASE)


@dataclass
class Log:
    """The records of a training, in their order.

    Attributes:
        name (str): The log as the user named it.
        train (list[dict]): What was logged while training.
        val (list[dict]): What validations gave; ``after`` is the last iteration logged before.
    """
    name: str
    train: list[dict] = field(default_factory=list)
    val: list[dict] = field(default_factory=list)

    @property
    def by_epoch(self) -> bool:
        """Whether validation counts epochs; mmengine may write epoch 0 for all where training counts iterations."""
        return any('epoch' in record for record in self.train) and any(record['step'] for record in self.val)

    def curve(self, key: str) -> tuple[list[int], list[float]]:
        """Steps and finite values of ``key``."""
        records = [record for record in (self.val if self.is_val(key) else self.train) if key in record]
        points = [(record['step'] or record['after'], record[key]) for record in records if math.isfinite(record[key])]
        return [step for step, _ in points], [value for _, value in points]

    def is_val(self, key: str) -> bool:
        """Whether ``key`` comes from validation alone: ``time`` is logged there, too, and means training here."""
        return not any(key in record for record in self.train)

    def keys(self) -> list[str]:
        """All keys, those of training first."""
        return list(dict.fromkeys(key for record in self.train + self.val for key in record if key not in PLACE))

    def axis(self, key: str) -> str:
        return 'epoch' if self.by_epoch and self.is_val(key) else 'iteration'


def read_records(path: Path) -> list[dict]:
    """The records of a scalars.json.

    Raises:
        UsageError: If a line other than the last is no record.
    """
    lines = path.read_text(errors='replace').splitlines()
    records, iteration = [], 0
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            if not isinstance(record, dict):
                raise ValueError('no object')
        except ValueError as error:
            if number == len(lines):
                break
            raise UsageError(f'{path}, line {number}: no record ({error}). Give a scalars.json as LocalVisBackend '
                             'writes it.') from error
        iteration = record.get('iter', iteration)
        records.append(record if 'iter' in record else record | dict(after=iteration))
    return records


def joined(runs: list[Path]) -> list[dict]:
    """The records of the last run, after those of the runs it resumes up to where it goes on."""
    records: list[dict] = []
    for run in reversed(runs):
        start = min((record['iter'] for record in records if 'iter' in record), default=math.inf)
        records = [record for record in read_records(run / SCALARS)
                   if record.get('iter', record.get('after')) < start] + records
        config = run / 'vis_data/config.py'
        if not (config.is_file() and Config.fromfile(config, import_custom_modules=False).get('resume')):
            break
    return records


def read_log(name: str) -> Log:
    """Reads a log.

    Raises:
        UsageError: If there is none at ``name``, or it is empty or broken.
    """
    path = Path(name)
    if path.is_file():
        records = read_records(path)
    elif (path / SCALARS).is_file():
        records = read_records(path / SCALARS)
    else:
        runs = sorted(file.parents[1] for file in path.glob(f'*/{SCALARS}'))  # named after the time of their start
        if not runs:
            raise UsageError(f'"{name}" is no log: give a work directory, the folder of a run in it or a scalars.json. '
                             'One appears with the first line that a training logs, and only with LocalVisBackend in '
                             'vis_backends.')
        records = joined(runs)
    log = Log(name.rstrip('/'), [record for record in records if 'iter' in record],
              [record for record in records if 'iter' not in record])
    if not records:
        raise UsageError(f'the log "{name}" is empty: the training ended before its first line.')
    return log


def default_keys(logs: list[Log]) -> list[str]:
    """The loss and the main metrics: not those that only refine another one, as coco/bbox_mAP_50."""
    found = dict.fromkeys(key for log in logs for record in log.val for key in record
                          if log.is_val(key) and key not in PLACE)
    metrics = [key for key in found if not any(key.startswith(f'{other}_') for other in found)]
    return ['loss'] * any('loss' in log.keys() for log in logs) + metrics


def check_keys(keys: list[str], logs: list[Log]) -> None:
    known = dict.fromkeys(key for log in logs for key in log.keys())
    if unknown := [key for key in keys if key not in known]:
        raise UsageError(f'--keys {" ".join(unknown)}: not in the logs. They have: {" ".join(known)}')


def table(logs: list[Log], keys: list[str]) -> str:
    """Best and last value of each key of each log, and the mean time of an iteration."""
    rows = [('log', 'key', 'best', 'at', 'last', 'at', 's/iteration')]
    for log in logs:
        times = log.curve('time')[1]
        time = f'{sum(times) / len(times):.4f}' if times and not log.is_val('time') else '-'
        for key in keys:
            steps, values = log.curve(key)
            if not values:
                rows.append((log.name, key, '-', '-', '-', '-', time))
                continue
            best = (min if FALLING.search(key) else max)(range(len(values)), key=values.__getitem__)
            place = log.axis(key)
            rows.append((log.name, key, f'{values[best]:.4g}', f'{place} {steps[best]}', f'{values[-1]:.4g}',
                         f'{place} {steps[-1]}', time))
    return align(rows)


def draw(logs: list[Log], keys: list[str], path: Path) -> None:
    """One panel for each key, one colour for each log."""
    import matplotlib
    matplotlib.use('Agg')
    from matplotlib import pyplot as plt

    columns = min(3, len(keys))
    rows = math.ceil(len(keys) / columns)
    figure, panels = plt.subplots(rows, columns, figsize=(4.5 * columns, 3.4 * rows + 0.3 * len(logs)), squeeze=False,
                                  layout='constrained')
    for panel in panels.flat[len(keys):]:
        panel.remove()
    for panel, key in zip(panels.flat, keys, strict=False):
        for index, log in enumerate(logs):
            panel.plot(*log.curve(key), color=f'C{index}', marker='o' if log.is_val(key) else '', markersize=4)
        panel.set_title(key)
        panel.set_xlabel(' or '.join(dict.fromkeys(log.axis(key) for log in logs if key in log.keys())))
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.grid(alpha=0.3)
    entries = [plt.Line2D([], [], color=f'C{index}') for index in range(len(logs))]
    figure.legend(entries, [log.name for log in logs], loc='outside lower center')
    with whole_file(path) as temporary:
        figure.savefig(temporary, format='png', dpi=120)
    plt.close(figure)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('logs', nargs='+', metavar='log', help='work directory, folder of a run, or scalars.json')
    parser.add_argument('--keys', nargs='+', help='what to show; default: the loss and the main metrics')
    parser.add_argument('--out', metavar='FILE.png', help='draw the curves into this file')
    return parser.parse_args()


@one_line_errors
def main() -> None:
    args = parse_args()
    if args.out and not args.out.endswith('.png'):
        raise UsageError(f'--out "{args.out}": the name must end in .png.')
    logs = [read_log(name) for name in args.logs]
    keys = list(dict.fromkeys(args.keys or default_keys(logs)))
    if not keys:
        raise UsageError(f'the logs have neither a loss nor a validation. Name --keys: they have '
                         f'{" ".join(dict.fromkeys(key for log in logs for key in log.keys()))}')
    check_keys(keys, logs)
    print(table(logs, keys))
    if args.out:
        draw(logs, keys, Path(args.out))
        print(f'the curves are in {args.out}')


if __name__ == '__main__':
    main()
