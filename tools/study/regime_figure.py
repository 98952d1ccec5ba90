"""What growing gains over how much the base has seen for each of its parameters: all bases in one figure."""
import re
from pathlib import Path
from statistics import mean

import matplotlib
from compare import Arms, Estimate

matplotlib.use('Agg')

from matplotlib import pyplot as plt  # noqa: E402

#: Grid -> its base and images. Of these the Swin alone over-fits its training data at its largest budget.
BASES = dict(
    t1_deit_single_regime='1 block, plain',
    t1_deit_shallow_regime='2 blocks, plain',
    t1_deit='6 blocks, plain',
    t1_deit_mechanisms='6 blocks, plain',
    t2_deit_crops='1 block, photographs',
    t2_swin_crops='Swin of 2 + 2 blocks, photographs',
    t2_deit_deeper='{blocks}, photographs',
    t2_deit_narrow_regime='6 narrow blocks, photographs',
    t2_deit_narrow_long_regime='6 narrow blocks, photographs')
WAYS = dict(shared='the whole net run twice, shared', stacked='the whole net twice, copies',
            third='its middle third run twice, shared')
#: Of an arm's name what matters here, and what may follow.
ARM = re.compile(rf'({"|".join(WAYS)})(?:, (?:[\d.]+k steps|(\d+ blocks)))?$')
#: DeiT of ImageNet, 300 epochs of 196 patches: tokens over parameters, from the published sizes.
IMAGENET = {f'DeiT-{size}': 300 * 1_281_167 * 196 / parameters
            for size, parameters in (('B', 86.6e6), ('S', 22.1e6), ('T', 5.7e6))}


def tokens_per_parameter(base: dict) -> float:
    """By the rule that training costs 6 FLOPs for each token and parameter (Kaplan et al., arXiv 2001.08361)."""
    return base['train_flops'] / (6 * base['parameters']**2)


def points(arms: Arms) -> dict[str, dict[str, dict[float, Estimate]]]:
    """Way -> base -> tokens per parameter -> the test loss saved, in percent of that of the base trained on."""
    found = {way: {} for way in WAYS}
    for study, arm in arms.records:
        match = ARM.match(arm)
        if study not in BASES or not match or not (gain := arms.gain(study, arm, 'test_loss')):
            continue
        record = next(iter(arms.records[study, arm].values()))
        opponent = record['opponent_study'], record['opponent']
        part = -100 / mean(arms.values(*opponent, 'test_loss'))
        base = BASES[study].format(blocks=match[2])
        tokens = tokens_per_parameter(next(iter(arms.records[opponent].values())))
        found[match[1]].setdefault(base, {})[tokens] = Estimate(
            part * gain.mean, None, None if gain.half is None else abs(part) * gain.half, gain.count)
    return found


def regime_table(arms: Arms) -> list[list[str]]:
    """What the figure shows, in numbers; no rows where there is nothing to show."""
    rows = [['base', 'way', 'tokens for each parameter', 'seeds', 'test loss saved (%)']]
    for way, by_base in points(arms).items():
        for base, of_base in by_base.items():
            for tokens, gain in sorted(of_base.items()):
                half = '' if gain.half is None else f' ± {gain.half:.1f}'
                rows.append([base, way, f'{tokens:,.0f}', str(gain.count), f'{gain.mean:+.1f}{half}'])
    return rows if rows[1:] else []


def regime(arms: Arms, path: Path) -> None:
    """One panel a way to grow, one line a base."""
    found = points(arms)
    bases = list(dict.fromkeys(base for by_base in found.values() for base in by_base))
    figure, panels = plt.subplots(1, len(WAYS), figsize=(15, 5.2), layout='constrained', sharex=True, sharey=True)
    for panel, (way, by_base) in zip(panels, found.items(), strict=True):
        for base, of_base in by_base.items():
            tokens = sorted(of_base)
            panel.errorbar(tokens, [of_base[number].mean for number in tokens], fmt=f'C{bases.index(base)}-o',
                           yerr=[of_base[number].half or 0 for number in tokens], capsize=3,
                           label=f'{base} ({max(gain.count for gain in of_base.values())})')
        panel.axhline(0, color='k', linewidth=0.8)
        for name, tokens in IMAGENET.items():
            panel.axvline(tokens, color='C7', linestyle=':', linewidth=0.8)
            panel.annotate(name, (tokens, 0.01), xycoords=('data', 'axes fraction'), rotation=90, fontsize=7,
                           color='C7', ha='right', va='bottom')
        panel.set_xscale('log')
        panel.set(xlabel='patch tokens for each parameter of the base, whole budget', title=WAYS[way])
        panel.grid(alpha=0.3)
    panels[0].set_ylabel('test loss saved against the base trained on,\n% of its own, equal FLOPs '
                         '(above 0: growing pays)')
    # below: within the panels it would hide points
    names = {label: handle for panel in panels
             for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)}
    figure.legend(names.values(), names, title='base, garments (seeds)', fontsize=8, loc='outside lower center',
                  ncols=4)
    figure.suptitle('Dotted: what a DeiT sees in 300 epochs of ImageNet. Bars: 95 % interval; none: one seed')
    figure.savefig(path, dpi=120, format='png')
    plt.close(figure)
