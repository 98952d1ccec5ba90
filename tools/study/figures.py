"""The figures of the study, each drawn from lines alone."""
import re
from collections.abc import Callable
from pathlib import Path
from statistics import mean

import matplotlib
from compare import Arms, Estimate
from depth_figures import deeper, depths
from elastic_figures import elastic
from metrics import Metric
from regime_figure import BASES, regime

matplotlib.use('Agg')

from matplotlib import pyplot as plt  # noqa: E402

#: Arms of the curves: what is compared with the base trained on in the first place.
MAIN = ('base', 'base, adapters', 'shared', 'stacked', 'ScaleNet', 'gate 0', 'scratch, full depth', 'third',
        'third, 1/N', 'third, inject')


#: Of figures that stand where nobody knows the grids.
TITLES = dict(
    t1_deit_single_regime='DeiT of one block on Fashion-MNIST, run twice from 70 % of the budget on, equal FLOPs',
    t2_deit_crops='DeiT of one block on garments before photographs, run twice from 70 % of the budget on, equal FLOPs',
    demo='DeiT of one block on garments before photographs, grown at 70 % of the budget, equal FLOPs')


def _panels(metrics: list[Metric], height: float, **shared: bool) -> tuple[plt.Figure, list[plt.Axes]]:
    figure, panels = plt.subplots(1, len(metrics), figsize=(1 + 5.5 * len(metrics), height), squeeze=False,
                                  layout='constrained', **shared)
    return figure, list(panels[0])


def curves(arms: Arms, study: str, path: Path) -> None:
    """The mean of every metric over training FLOPs, from half of the budget on."""
    metrics = arms.metrics(study)
    figure, panels = _panels(metrics, height=4.5)
    opponent = next((record['opponent_study'] for (name, _), seeds in arms.records.items() if name == study
                     for record in seeds.values()))
    names = [(study, arm) for arm in MAIN if (study, arm) in arms.records]
    if (study, 'base') not in names and (opponent, 'base') in arms.records:
        names.insert(0, (opponent, 'base'))
    budget = max((record['train_flops'] for name in names for record in arms.records[name].values()), default=0)
    for panel, metric in zip(panels, metrics, strict=True):
        seen = []
        for number, name in enumerate(names):
            points = {}
            for record in arms.records[name].values():
                for point in record['curve']:
                    if point['flops'] >= budget / 2:
                        points.setdefault(point['flops'], []).append(point[metric.key])
            flops = sorted(points)
            means = [mean(points[value]) for value in flops]
            seen += means[1:] or means  # what a fork loses at first would hide all else
            panel.plot([value / 1e12 for value in flops], means, 'k-o' if name[1] == 'base' else f'C{number}-o',
                       markersize=3, label=f'{name[1]} ({len(arms.records[name])})')
        if seen:
            margin = (max(seen) - min(seen)) * 0.1 + 1e-4
            panel.set_ylim(min(seen) - margin, max(seen) + margin)
        panel.set(xlabel='training FLOPs, the trunk\'s included (10^12)', ylabel=metric.label)
        panel.grid(alpha=0.3)
    panels[0].legend(title='arm (seeds)', fontsize=8)
    figure.suptitle(TITLES.get(study, study))
    figure.savefig(path, dpi=120, format='png')
    plt.close(figure)


def gains(arms: Arms, study: str, path: Path) -> None:
    """The paired difference of every arm to its opponent, with its 95 % interval."""
    metrics = arms.metrics(study)
    names = [arm for arm in arms.of(study) if arms.gain(study, arm, metrics[0].key)]
    figure, panels = _panels(metrics, height=1.5 + 0.28 * len(names), sharey=True)
    for panel, metric in zip(panels, metrics, strict=True):
        sign = metric.better
        for place, arm in enumerate(names):
            gain = arms.gain(study, arm, metric.key)
            colour = 'C7' if gain.half is None else 'C2' if sign * gain.mean > gain.half else \
                'C3' if -sign * gain.mean > gain.half else 'C0'
            panel.barh(place, sign * gain.mean, xerr=gain.half, color=colour, height=0.7, capsize=2)
        panel.axvline(0, color='k', linewidth=0.8)
        panel.set_xlabel(f'{metric.name} {"gained" if sign > 0 else "saved"} against the opponent')
        panel.grid(axis='x', alpha=0.3)
    panels[0].set_yticks(range(len(names)), [f'{arm} ({arms.gain(study, arm, metrics[0].key).count})' for arm in names])
    panels[0].invert_yaxis()
    figure.suptitle(f'{study}: mean over paired seeds (number), 95 % interval; grey: one seed, no interval')
    figure.savefig(path, dpi=120, format='png')
    plt.close(figure)


def ages(arms: Arms, study: str, path: Path) -> None:
    """The gain of every way to spend the rest over the budget, whose base is the older the larger it is."""
    metrics = arms.metrics(study)
    figure, panels = _panels(metrics, height=4.5)
    for panel, metric in zip(panels, metrics, strict=True):
        ways: dict[str, dict[float, Estimate]] = {}
        for arm in arms.of(study):
            if gain := arms.gain(study, arm, metric.key):
                record = next(iter(arms.records[study, arm].values()))
                ways.setdefault(AGE.sub('', arm), {})[record['train_flops'] / 1e12] = gain
        for number, (way, points) in enumerate(sorted(ways.items())):
            budgets = sorted(points)
            # a little apart, so that every bar can be seen
            panel.errorbar([budget * 1.03**(number - 1) for budget in budgets],
                           [metric.better * points[budget].mean for budget in budgets], fmt=f'C{number}-o', capsize=3,
                           yerr=[points[budget].half or 0 for budget in budgets],
                           label=f'{way} ({max(gain.count for gain in points.values())})')
        panel.axhline(0, color='k', linewidth=0.8)
        panel.set_xscale('log', base=2)
        ticks = sorted({float(f'{budget:.2g}') for points in ways.values() for budget in points})
        panel.set_xticks(ticks, [f'{tick:g}' for tick in ticks])
        panel.minorticks_off()
        panel.set(xlabel='training FLOPs of the whole budget (10^12)',
                  ylabel=f'{metric.name} {"gained" if metric.better > 0 else "saved"} against\nthe base trained on '
                         '(above 0: growing pays)')
        panel.grid(alpha=0.3)
    panels[0].legend(title='way (seeds; without a bar: one)', fontsize=8)
    figure.suptitle(TITLES.get(study, study))
    figure.savefig(path, dpi=120, format='png')
    plt.close(figure)


#: What an arm's name says of the budget.
AGE = re.compile(r', [\d.]+k steps$')
#: Name -> what it shows, the function that draws it, and the grids of which it is drawn.
FIGURES: dict[str, tuple[str, Callable[[Arms, str, Path], None], str]] = {
    'curves': ('what is measured over training FLOPs, mean over seeds', curves,
               r'^(?!.*_(regime|crops|deeper|depths|rates|elastic|dials|when|tricks))'),
    'gains': ('paired difference to the opponent, 95 % interval', gains, r'^(?!.*_(depths|rates))'),
    'ages': ('gain over the base trained on, over the budget', ages, '_(regime|crops)'),
    'deeper': ('gain over the depth of the base, and its own loss', deeper, '_deeper'),
    'elastic': ('an elastic net, and a net for each depth, over what a depth costs', elastic, '_elastic'),
    'depths': ('test loss over the number of blocks at the same FLOPs', depths, '_depths'),
}
#: Figures in which arms of another grid stand, too, and which.
WITH = dict(deeper='t2_deit_crops', depths='t1_deit')
#: The same of figures that are drawn of several grids: what it shows, the function, and the grids.
OVERALL: dict[str, tuple[str, Callable[[Arms, Path], None], tuple[str, ...]]] = {
    'regime': ('gain over how many patch tokens the base sees for each parameter, all bases', regime, tuple(BASES)),
}
