"""Make every table and figure of the study from its lines.

Reads docs/results/growth/lines/*.jsonl and writes, beside that folder, tables.md, the figures, and figures.md, which
says of each figure from which lines it was made. Works with whatever lines are there; an arm with one seed has no
interval.

    python tools/study/report.py
"""
import argparse
import re
import sys
from pathlib import Path
from statistics import mean

sys.path.append(str(Path(__file__).resolve().parent))

import figures  # noqa: E402
import lines  # noqa: E402
from compare import Arms, Estimate  # noqa: E402
from elastic_figures import depth_table  # noqa: E402
from regime_figure import regime_table  # noqa: E402

from mmscalenet.engine import UsageError, one_line_errors, whole_file  # noqa: E402

COMMAND = 'python tools/study/report.py'
#: What follows an arm's name where the rate or averaging alone differs.
VARIANTS = (', lr x', ', EMA')


def spread(values: list[float], digits: int) -> str:
    estimate = Estimate.of(values)
    text = f'{estimate.mean:.{digits}f}'
    return text if estimate.std is None else f'{text} ± {estimate.std:.{digits}f}'


def difference(estimate: Estimate | None, digits: int, better: int) -> str:
    """Mean and 95 % interval; bold where that excludes 0 on the good side."""
    if estimate is None:
        return ''
    text = f'{estimate.mean:+.{digits}f}'
    if estimate.half is None:
        return text
    low, high = estimate.mean - estimate.half, estimate.mean + estimate.half
    text += f' [{low:+.{digits}f}, {high:+.{digits}f}]'
    return f'**{text}**' if min(better * low, better * high) > 0 else text


def row(arms: Arms, study: str, arm: str) -> list[str]:
    records = list(arms.records[study, arm].values())
    first, metrics = records[0], arms.metrics(study)
    gains = [arms.gain(study, arm, metric.key) for metric in metrics]
    return [
        arm, str(len(records)), *(spread(arms.values(study, arm, metric.key), metric.digits) for metric in metrics),
        *(difference(gain, metric.digits, metric.better) for gain, metric in zip(gains, metrics, strict=True)),
        first['opponent'] if gains[0] else '', f'{first["parameters"]:,}', f'{first["train_flops"] / 1e12:.1f}',
        f'{mean(record["wall"] for record in records) / 60:.1f}'
    ]


def head(arms: Arms, study: str) -> list[str]:
    metrics = arms.metrics(study)
    return ['arm', 'seeds', *(metric.label for metric in metrics), *(f'{metric.name} against' for metric in metrics),
            'opponent', 'parameters', 'TFLOPs', 'minutes']


def markdown(rows: list[list[str]]) -> str:
    rows = [rows[0], ['---', *['---:'] * (len(rows[0]) - 1)], *rows[1:]]
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in rows)


def plain_name(arm: str) -> str:
    """The arm without its rate or averaging."""
    return min((arm.split(variant)[0] for variant in VARIANTS), key=len)


def best_variants(arms: Arms, study: str) -> list[list[str]]:
    """Every arm that has variants, with that of the lowest mean test loss, against the base with its best one."""
    groups: dict[str, list[str]] = {}
    for arm in arms.of(study):
        groups.setdefault(plain_name(arm), []).append(arm)
    if len(groups.get('base', [])) < 2:
        return []
    best = {name: min(names, key=lambda arm: mean(arms.values(study, arm, 'test_loss')))
            for name, names in groups.items() if len(names) > 1}
    against = (study, best['base'])
    return [[name, chosen, spread(arms.values(study, chosen, 'test_loss'), 4),
             difference(arms.gain(study, chosen, 'top1', against), 2, 1),
             difference(arms.gain(study, chosen, 'test_loss', against), 4, -1)]
            for name, chosen in best.items()]


def tables(arms: Arms, studies: list[str]) -> str:
    parts = [
        f'# Growing: the tables\n\nMade by `{COMMAND}` from `lines/`. Mean ± standard deviation over seeds. "Against": '
        'mean difference to the opponent of the same seed and its 95 % interval; bold: excludes 0, and is better. '
        "FLOPs are those of all training up to there, a trunk's part included; minutes are of the arm's own part. "
        'As many arms are compared as there are rows: see plan.md on chance.'
    ]
    for study in studies:
        rows = [row(arms, study, arm) for arm in arms.of(study)]
        parts.append(f'## {study}\n\n{markdown([head(arms, study), *rows])}')
        if rows := best_variants(arms, study):
            parts.append('Each with its best learning rate or averaging (lowest mean test loss), against the base with '
                         'its best:\n\n' + markdown([['arm', 'best', 'test loss', 'top-1 against', 'test loss against'],
                                                     *rows]))
        if rows := depth_table(arms, study):
            parts.append('The finished nets, tested at other depths (means, in brackets of how many seeds; differences '
                         'paired by seed, with half of their 95 % interval):\n\n' + markdown(rows))
    if rows := regime_table(arms):
        parts.append('## All bases\n\nTest loss saved against the base trained on, in percent of its own, with half of '
                     'the 95 % interval; tokens for each parameter: training FLOPs / 6 N^2.\n\n' + markdown(rows))
    return '\n\n'.join(parts) + '\n'


def files_of(studies: list[str]) -> str:
    return ', '.join(f'lines/{study}.jsonl' for study in studies)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--lines', default=str(lines.FOLDER), help='folder of the lines; default: docs/results/growth/'
                        'lines')
    return parser.parse_args()


@one_line_errors
def main() -> None:
    folder = Path(parse_args().lines)
    records = [record for path in sorted(folder.glob('*.jsonl')) for record in lines.read(path)]
    if not records:
        raise UsageError(f'there are no lines in {folder}; run `python tools/study/run.py t1_deit` first.')
    out, arms = folder.parent, Arms(records)
    studies = list(dict.fromkeys(record['study'] for record in records))
    index = [['figure', 'shows', 'lines', 'command']]
    for study in studies:
        # an arm's opponent may be of another grid
        sources = sorted({study, *(record['opponent_study'] for record in records if record['study'] == study)})
        for name, (shows, draw, grids) in figures.FIGURES.items():
            if not re.search(grids, study):
                continue
            with whole_file(out / f'{name}_{study}.png') as path:
                draw(arms, study, path)
            drawn = sorted({*sources, *([figures.WITH[name]] if figures.WITH.get(name) in studies else [])})
            index.append([f'{name}_{study}.png', shows, files_of(drawn), f'`{COMMAND}`'])
    for name, (shows, draw, grids) in figures.OVERALL.items():
        sources = [study for study in studies if study in grids]
        if sources:
            with whole_file(out / f'{name}.png') as path:
                draw(arms, path)
            index.append([f'{name}.png', shows, files_of(sources), f'`{COMMAND}`'])
    for name, text in (('tables.md', tables(arms, studies)), ('figures.md', f'# Growing: the figures\n\n'
                                                              f'{markdown(index)}\n')):
        with whole_file(out / name) as path:
            path.write_text(text)
    print(f'{len(records)} lines of {len(studies)} grids: {out / "tables.md"}, {out / "figures.md"}')


if __name__ == '__main__':
    main()
