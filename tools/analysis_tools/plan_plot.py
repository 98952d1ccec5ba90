"""The picture of plan_expansion.py: cost over depth."""
import argparse
from collections.abc import Iterator

from plan_budgets import UNITS, Row, amount

from mmscalenet.engine import whole_file

#: Name of the budget -> title of its panel, and what its axis counts.
PANELS = {'params': ('parameters (M)', 1e6), 'gflops': ('multiply-adds of one image (G)', 1e9),
          'memory': ('memory of a training step (GiB)', 2**30), 'latency': ('latency of one image (ms)', 1e-3)}
#: Of a memory without and with checkpointing; of a latency that was measured and one that was added up.
MARKERS = {'plain': ('o', 6), 'checkpointed': ('v', 6), 'estimate': ('D', 3)}


def draw(rows: list[Row], title: str, args: argparse.Namespace) -> None:
    """One panel for each cost, one colour for each width of adapters; what keeps to all budgets is filled."""
    import matplotlib
    matplotlib.use('Agg')
    from matplotlib import pyplot as plt

    names = [name for name in UNITS if name != 'latency' or not args.no_latency]
    figure, panels = plt.subplots(1, len(names), figsize=(4.4 * len(names), 4.8), layout='constrained')
    colours = {ratio: f'C{i}' for i, ratio in enumerate(sorted({row.candidates[0].ratio or 0 for row in rows}))}
    for panel, name in zip(panels, names, strict=True):
        label, unit = PANELS[name]
        highest = 0.
        for row in rows:
            colour = colours[row.candidates[0].ratio or 0]
            for value, kind, fits in _points(row, name):
                marker, size = MARKERS[kind]
                panel.plot(row.depth, value / unit, marker, color=colour, markersize=size,
                           markerfacecolor=colour if fits else 'none')
                highest = max(highest, value)
        if (limit := rows[0].limits.get(name)) is not None:
            _draw_limit(panel, limit / unit, highest / unit, amount(name, limit))
        panel.set_title(label)
        panel.set_xlabel('positions')
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.grid(alpha=0.3)
    widths = [(colour, f'adapter ratio {ratio}' if ratio else 'no adapter') for ratio, colour in colours.items()]
    ways = [('o', 'none', 'exceeds a budget'), ('o', 'grey', 'fits all'), ('v', 'grey', 'with checkpointing')]
    ways += [] if args.no_latency else [('D', 'grey', 'latency added up, not measured')]
    entries = [plt.Line2D([], [], linestyle='', marker='o', color=colour, label=label) for colour, label in widths]
    entries += [plt.Line2D([], [], linestyle='', marker=marker, color='grey', markerfacecolor=face, label=label)
                for marker, face, label in ways]
    figure.legend(handles=entries, loc='outside lower center', ncols=len(entries))
    figure.suptitle(title, fontsize='medium', wrap=True)
    with whole_file(args.plot) as path:
        figure.savefig(path, format='png', dpi=120)
    plt.close(figure)


def _points(row: Row, name: str) -> Iterator[tuple[float, str, bool]]:
    """Values of a row in a panel, how they came about, and whether the net fits so."""
    fits = not row.excess()
    if name == 'memory':
        yield row.figures.memory(row.batch, False), 'plain', fits and not row.needs_checkpointing
        yield row.figures.memory(row.batch, True), 'checkpointed', fits
    else:
        yield row.values()[name], 'estimate' if name == 'latency' and row.latency is None else 'plain', fits


def _draw_limit(panel: object, limit: float, highest: float, label: str) -> None:
    """A line where the budget ends; one far above all that is drawn is only named, as it would flatten the rest."""
    if limit < 1.5 * highest:
        panel.axhline(limit, color='black', linestyle='--', linewidth=1)
        panel.annotate(label, (0.02, limit), xycoords=('axes fraction', 'data'), xytext=(0, 3),
                       textcoords='offset points')
    else:
        panel.annotate(f'{label}: far above', (0.02, 0.96), xycoords='axes fraction', verticalalignment='top')
