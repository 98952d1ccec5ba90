"""The picture of plan_expansion.py: cost over depth."""
import argparse
from fractions import Fraction
from typing import TYPE_CHECKING

from plan_budgets import UNITS, Row, amount

from mmscalenet.engine import whole_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Name of the budget -> title of its panel, and what its axis counts.
PANELS = {'params': ('parameters (M)', 1e6), 'gflops': ('multiply-adds of one image (G)', 1e9),
          'memory': ('memory of a training step (GiB), batch {}', 2**30),
          'latency': ('latency of one image (ms)', 1e-3)}
#: Of a memory without and with checkpointing; of a latency that was measured and one that was added up.
MARKERS = {'plain': ('o', 6), 'checkpointed': ('v', 6), 'estimate': ('D', 3)}
#: Lines through nets that are grown alike everywhere, and through those of which the deepest stage alone is.
LINES = {'all stages grow': '-', 'the deepest stage alone grows': ':'}


def draw(rows: list[Row], title: str, args: argparse.Namespace) -> None:
    """One panel for each cost, one colour for each width of adapters; what keeps to all budgets is filled."""
    import matplotlib
    matplotlib.use('Agg')
    from matplotlib import pyplot as plt

    names = [name for name in UNITS if name != 'latency' or not args.no_latency]
    figure, panels = plt.subplots(1, len(names), figsize=(4.4 * len(names), 5), layout='constrained')
    colours = {ratio: f'C{i}' for i, ratio in enumerate(sorted({_ratio(row) for row in rows}))}
    for panel, name in zip(panels, names, strict=True):
        _draw_panel(panel, rows, name, colours)
        panel.set_title(PANELS[name][0].format(args.batch_size))
        panel.set_xlabel('positions')
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.grid(alpha=0.3)
    entries = [plt.Line2D([], [], linestyle='', marker='o', color=colour,
                          label=f'adapter ratio {ratio}' if ratio else 'no adapter')
               for ratio, colour in colours.items()]
    kinds = [('o', 'grey', 'fits'), ('o', 'white', 'exceeds a budget'), ('v', 'grey', 'with checkpointing')]
    kinds += [] if args.no_latency else [('D', 'grey', 'added up, not measured')]
    entries += [plt.Line2D([], [], linestyle='', marker=marker, color='grey', markerfacecolor=face, label=label)
                for marker, face, label in kinds]
    if len(rows[0].figures.positions) > 1:
        entries += [plt.Line2D([], [], linestyle=style, color='grey', label=label) for label, style in LINES.items()]
    figure.legend(handles=entries, loc='outside lower center', ncols=-(-len(entries) // 2))
    figure.suptitle(title, fontsize='medium', wrap=True)
    with whole_file(args.plot) as path:
        figure.savefig(path, format='png', dpi=120)
    plt.close(figure)


def _draw_panel(panel: 'Axes', rows: list[Row], name: str, colours: dict[Fraction, str]) -> None:
    unit = PANELS[name][1]
    for ratio, colour in colours.items():
        for style, is_alone in zip(LINES.values(), (False, True), strict=True):
            line = sorted((row for row in rows if _ratio(row) == ratio and _is_alone(row) in (is_alone, None)),
                          key=lambda row: row.depth)
            for curve in zip(*(_values(row, name) for row in line), strict=True):
                panel.plot([row.depth for row in line], [value / unit for value, *_ in curve], style, color=colour,
                           alpha=0.4)
    for row in rows:
        for value, kind, fits in _values(row, name):
            marker, size = MARKERS[kind]
            colour = colours[_ratio(row)]
            panel.plot(row.depth, value / unit, marker, color=colour, markersize=size,
                       markerfacecolor=colour if fits else 'white')
    if name in rows[0].limits:
        limit = rows[0].limits[name]
        highest = max(value for row in rows for value, *_ in _values(row, name))
        _draw_limit(panel, limit / unit, amount(name, limit), within=limit < 1.5 * highest)


def _draw_limit(panel: 'Axes', limit: float, label: str, within: bool) -> None:
    """A line where the budget ends; one far above all that is drawn is only named, as it would flatten the rest."""
    if within:
        panel.axhline(limit, color='black', linestyle='--', linewidth=1)
        panel.annotate(label, (0.98, limit), xycoords=('axes fraction', 'data'), xytext=(0, -3),
                       textcoords='offset points', horizontalalignment='right', verticalalignment='top')
    else:
        panel.annotate(f'{label}: far above', (0.02, 0.97), xycoords='axes fraction', verticalalignment='top')


def _values(row: Row, name: str) -> list[tuple[float, str, bool]]:
    """Values of a row in a panel, how they came about, and whether the net fits so."""
    fits = not row.excess()
    if name == 'memory':
        return [(row.figures.memory(row.batch, False), 'plain', fits and not row.needs_checkpointing),
                (row.figures.memory(row.batch, True), 'checkpointed', fits)]
    return [(row.values()[name], 'estimate' if name == 'latency' and row.latency is None else 'plain', fits)]


def _ratio(row: Row) -> Fraction:
    return row.candidates[0].ratio or Fraction(0)


def _is_alone(row: Row) -> bool | None:
    """Whether the deepest stage alone is grown; None where nothing is."""
    scale = dict(row.candidates[0].options)['scale']
    return None if scale == 1 else isinstance(scale, list)
