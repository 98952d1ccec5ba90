"""The figures over the number of blocks."""
import re
from pathlib import Path

import matplotlib
from compare import Arms, Estimate

matplotlib.use('Agg')

from matplotlib import pyplot as plt  # noqa: E402

from mmscalenet.engine import read_config  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


def depths(arms: Arms, study: str, path: Path) -> None:
    """Test loss over the number of blocks, all trained from scratch for the same FLOPs."""
    points = {}
    record = next(iter(arms.records[study, arms.of(study)[0]].values()))
    base = study.removesuffix('_depths'), 'base'  # the net of the other grid has had the same FLOPs
    if base in arms.records:
        points[read_config(str(ROOT / record['config'])).model.backbone.arch.num_layers] = Estimate.of(
            arms.values(*base, 'test_loss'))
    for arm in arms.of(study):
        if found := re.search(r'(\d+) blocks', arm):
            points[int(found[1])] = Estimate.of(arms.values(study, arm, 'test_loss'))
    figure, panel = plt.subplots(figsize=(6, 4), layout='constrained')
    blocks = sorted(points)
    panel.errorbar(blocks, [points[number].mean for number in blocks], fmt='k-o', capsize=3,
                   yerr=[points[number].half or 0 for number in blocks])
    panel.set_xscale('log', base=2)
    panel.set_xticks(blocks, blocks)
    panel.minorticks_off()
    panel.set(xlabel='blocks, from scratch, for the same training FLOPs', ylabel='test loss', title=study)
    panel.grid(alpha=0.3)
    figure.savefig(path, dpi=120, format='png')
    plt.close(figure)


def deeper(arms: Arms, study: str, path: Path) -> None:
    """Over the base's number of blocks, at the same FLOPs: its own test loss, and what each way of growing it saves."""
    losses, ways = {}, {}
    of_one = [('t2_deit_crops', arm, 1) for arm in ('base', *(f'{way}, 32k steps' for way in
                                                             ('shared', 'ScaleNet', 'stacked')))]
    for grid, arm, blocks in [*of_one, *((study, arm, int(re.search(r'(\d+) blocks', arm)[1]))
                                        for arm in arms.of(study))]:
        if (grid, arm) not in arms.records:
            continue
        if arm.startswith('base'):
            losses[blocks] = Estimate.of(arms.values(grid, arm, 'test_loss'))
        elif gain := arms.gain(grid, arm, 'test_loss'):
            ways.setdefault(arm.split(',')[0], {})[blocks] = gain
    figure, panels = plt.subplots(1, 2, figsize=(11, 4.2), layout='constrained')

    def draw(panel: plt.Axes, points: dict[int, Estimate], sign: int, style: str, label: str | None = None) -> None:
        blocks = sorted(points)
        panel.errorbar(blocks, [sign * points[number].mean for number in blocks], fmt=style, capsize=3,
                       yerr=[points[number].half or 0 for number in blocks], label=label)

    draw(panels[0], losses, 1, 'k-o')
    for number, (way, points) in enumerate(sorted(ways.items())):
        draw(panels[1], points, -1, f'C{number}-o', way)
    panels[1].axhline(0, color='k', linewidth=0.8)
    panels[1].legend(title='way', fontsize=8)
    labels = ('test loss of the base,\nfrom scratch, for the same FLOPs',
              'test loss saved against\nthe base trained on (above 0: growing pays)')
    for panel, label in zip(panels, labels, strict=True):
        panel.set_xscale('log', base=2)
        panel.set_xticks(sorted(losses), sorted(losses))
        panel.minorticks_off()
        panel.set(xlabel='blocks of the base', ylabel=label)
        panel.grid(alpha=0.3)
    figure.suptitle(f'Bases of 1 to {max(losses)} blocks on garments before photographs (without a bar: one seed)')
    figure.savefig(path, dpi=120, format='png')
    plt.close(figure)
