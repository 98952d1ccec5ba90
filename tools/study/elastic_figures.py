"""Nets tested at several depths: their table and figure."""
from pathlib import Path

import matplotlib
from compare import Arms, Estimate
from metrics import Metric

matplotlib.use('Agg')

from matplotlib import pyplot as plt  # noqa: E402

#: Arms of the trunk's grid that are the nets of depth 1 and 2.
OF_THE_TRUNK = {1: 'base', 2: '{way}, 32k steps'}

Values = dict[int, dict[int, float]]  # by depth and seed


def at_depths(arms: Arms, study: str, arm: str, metric: Metric) -> Values:
    """What one net has at every depth at which it was tested."""
    found: Values = {}
    for seed, record in arms.records.get((study, arm), {}).items():
        for test in record.get('depths', ()):
            found.setdefault(test['depth'], {})[seed] = test[metric.key]
    return found


def one_net_a_depth(arms: Arms, study: str, way: str, metric: Metric) -> Values:
    """Nets of which each was trained for one depth, for the FLOPs of the elastic one."""
    trunk = next(iter(arms.records[study, f'{way}, elastic'].values()))['opponent_study']
    names = {depth: (trunk, arm.format(way=way)) for depth, arm in OF_THE_TRUNK.items()}
    names |= {int(arm.split(', ')[1]): (study, arm) for arm in arms.of(study)
              if arm.startswith(way) and 'elastic' not in arm}
    return {depth: {seed: record['curve'][-1][metric.key] for seed, record in arms.records[name].items()}
            for depth, name in sorted(names.items()) if name in arms.records}


def nets(arms: Arms, study: str, way: str, metric: Metric) -> dict[str, Values]:
    """All that is compared, by the seeds that the elastic net has."""
    found = {'a net for each depth': one_net_a_depth(arms, study, way, metric),
             'one elastic net': at_depths(arms, study, f'{way}, elastic', metric),
             'the net of depth 4': at_depths(arms, study, f'{way}, 4', metric)}
    seeds = arms.records[study, f'{way}, elastic'].keys()
    common = {name: {depth: {seed: of_seed[seed] for seed in of_seed if seed in seeds}
                     for depth, of_seed in values.items()} for name, values in found.items()}
    return {name: {depth: of_seed for depth, of_seed in values.items() if of_seed} for name, values in common.items()}


def means(values: Values) -> dict[int, Estimate]:
    return {depth: Estimate.of([*seeds.values()]) for depth, seeds in values.items()}


def differences(ours: Values, theirs: Values) -> dict[int, Estimate]:
    """At the depths that both have, paired by seed."""
    pairs = {depth: [value - theirs[depth][seed] for seed, value in ours[depth].items() if seed in theirs[depth]]
             for depth in ours.keys() & theirs.keys()}
    return {depth: Estimate.of(found) for depth, found in pairs.items() if found}


def ways(arms: Arms, study: str) -> list[str]:
    return [arm.removesuffix(', elastic') for arm in arms.of(study) if arm.endswith(', elastic')]


def depth_table(arms: Arms, study: str) -> list[list[str]]:
    """A row for each net, a column for each depth; none if the grid has no elastic net."""
    rows: dict[str, dict[int, str]] = {}
    for metric in arms.metrics(study):
        for way in ways(arms, study):
            compared = nets(arms, study, way, metric)
            for name, values in compared.items():
                rows[f'{metric.label}: {way}, {name}'] = {
                    depth: f'{point.mean:.{metric.digits}f} ({point.count})' for depth, point in means(values).items()}
            ours = compared.pop('one elastic net')
            for name, theirs in compared.items():
                rows[f'{metric.label}: {way}, elastic against {name}'] = {
                    depth: f'{point.mean:+.{metric.digits}f}' + (
                        '' if point.half is None else f' ± {point.half:.{metric.digits}f}')
                    for depth, point in differences(ours, theirs).items()}
    rows = {name: cells for name, cells in rows.items() if cells}
    depths = sorted({depth for cells in rows.values() for depth in cells})
    return [['net', *(f'depth {depth}' for depth in depths)],
            *([name, *(cells.get(depth, '') for depth in depths)] for name, cells in rows.items())] if rows else []


def elastic(arms: Arms, study: str, path: Path) -> None:
    """Every metric over the cost of a run: one elastic net, and nets of which each was trained for one depth."""
    metrics, found = arms.metrics(study), ways(arms, study)
    figure, panels = plt.subplots(1, len(metrics), figsize=(1 + 5.5 * len(metrics), 4.5), squeeze=False,
                                  layout='constrained')
    costs = {test['depth']: test['multiply_adds'] / record['batch'] / 1e6 for way in found
             for record in arms.records[study, f'{way}, elastic'].values() for test in record.get('depths', ())}
    for panel, metric in zip(panels[0], metrics, strict=True):
        ends = []
        for number, way in enumerate(found):
            for style, (name, values) in zip(('--s', '-o', ':^'), nets(arms, study, way, metric).items(), strict=True):
                points = means(values)
                depths = sorted(points.keys() & costs.keys())
                panel.errorbar([costs[depth] for depth in depths], [points[depth].mean for depth in depths],
                               fmt=f'C{number}{style}', capsize=3, label=f'{way}: {name}',
                               yerr=[points[depth].half or 0 for depth in depths])
                # a net that was trained at one depth may be far below at others
                ends += [] if name == 'the net of depth 4' else [points[depth].mean for depth in depths]
        if ends:
            margin = 0.25 * (max(ends) - min(ends))
            panel.set_ylim(min(ends) - margin, max(ends) + margin)
        panel.set(xlabel='million multiply-adds an image', ylabel=metric.label)
        panel.set_xticks([*costs.values()], [f'{cost:.2f}\ndepth {depth}' for depth, cost in costs.items()])
        panel.grid(alpha=0.3)
    if found:
        panels[0][0].legend(fontsize=8)
    seeds = max((len(arms.records[study, f'{way}, elastic']) for way in found), default=0)
    figure.suptitle(f'One block run up to four times (shared) or copied (stacked), equal training FLOPs a net; seeds: '
                    f'{seeds}; 95 % intervals')
    figure.savefig(path, dpi=120, format='png')
    plt.close(figure)
