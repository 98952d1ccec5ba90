"""The figures of the study, each drawn from lines alone."""
from collections.abc import Callable
from pathlib import Path
from statistics import mean

import matplotlib
from compare import Arms

matplotlib.use('Agg')

from matplotlib import pyplot as plt  # noqa: E402

#: Arms of the curves: what is compared with the base trained on in the first place.
MAIN = ('base', 'base, adapters', 'shared', 'stacked', 'ScaleNet', 'gate 0', 'scratch, full depth', 'third',
        'third, 1/N', 'third, inject')


def curves(arms: Arms, study: str, path: Path) -> None:
    """Mean test loss over training FLOPs, from half of the budget on."""
    figure, panel = plt.subplots(figsize=(7.5, 5), layout='constrained')
    opponent = next((record['opponent_study'] for (name, _), seeds in arms.records.items() if name == study
                     for record in seeds.values()))
    names = [(study, arm) for arm in MAIN if (study, arm) in arms.records]
    if (study, 'base') not in names and (opponent, 'base') in arms.records:
        names.insert(0, (opponent, 'base'))
    budget = max((arms.records[name] and max(record['train_flops'] for record in arms.records[name].values())
                  for name in names), default=0)
    losses = []
    for number, name in enumerate(names):
        points = {}
        for record in arms.records[name].values():
            for point in record['curve']:
                if point['flops'] >= budget / 2:
                    points.setdefault(point['flops'], []).append(point['test_loss'])
        flops = sorted(points)
        # what a fork loses at first would hide all else
        losses += [mean(points[value]) for value in flops[1:]]
        panel.plot([value / 1e12 for value in flops], [mean(points[value]) for value in flops],
                   'k-o' if name[1] == 'base' else f'C{number}-o', markersize=3,
                   label=f'{name[1]} ({len(arms.records[name])})')
    if losses:
        margin = (max(losses) - min(losses)) * 0.1 + 1e-4
        panel.set_ylim(min(losses) - margin, max(losses) + margin)
    panel.set(xlabel='training FLOPs, the trunk\'s included (10^12)', ylabel='test loss', title=study)
    panel.grid(alpha=0.3)
    panel.legend(title='arm (seeds)', fontsize=8)
    figure.savefig(path, dpi=120, format='png')
    plt.close(figure)


def gains(arms: Arms, study: str, path: Path) -> None:
    """The paired difference of every arm to its opponent, with its 95 % interval."""
    names = [arm for arm in arms.of(study) if arms.gain(study, arm, 'test_loss')]
    figure, panels = plt.subplots(1, 2, figsize=(11, 1.5 + 0.28 * len(names)), sharey=True, layout='constrained')
    for panel, key, label, sign in zip(panels, ('test_loss', 'top1'), ('test loss saved', 'top-1 gained (points)'),
                                       (-1, 1), strict=True):
        for place, arm in enumerate(names):
            gain = arms.gain(study, arm, key)
            colour = 'C7' if gain.half is None else 'C2' if sign * gain.mean > gain.half else \
                'C3' if -sign * gain.mean > gain.half else 'C0'
            panel.barh(place, sign * gain.mean, xerr=gain.half, color=colour, height=0.7, capsize=2)
        panel.axvline(0, color='k', linewidth=0.8)
        panel.set_xlabel(f'{label} against the opponent')
        panel.grid(axis='x', alpha=0.3)
    panels[0].set_yticks(range(len(names)), [f'{arm} ({arms.gain(study, arm, "top1").count})' for arm in names])
    panels[0].invert_yaxis()
    figure.suptitle(f'{study}: mean over paired seeds (number), 95 % interval; grey: one seed, no interval')
    figure.savefig(path, dpi=120, format='png')
    plt.close(figure)


#: Name -> what it shows, and the function that draws it.
FIGURES: dict[str, tuple[str, Callable[[Arms, str, Path], None]]] = {
    'curves': ('test loss over training FLOPs, mean over seeds', curves),
    'gains': ('paired difference to the opponent, 95 % interval', gains),
}
