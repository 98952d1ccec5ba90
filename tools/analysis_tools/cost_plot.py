"""The picture of cost_growth.py: what every scale costs, relative to the base."""
import statistics
from pathlib import Path

from mmscalenet.engine import whole_file

TWIN, OURS, LIGHT_KIND = 'unshared twin', 'ScaleNet', "ScaleNet, with_cp='light'"
#: Kind -> colour and marker.
STYLES = {TWIN: ('black', 's'), OURS: ('C0', 'o'), LIGHT_KIND: ('C1', 'v')}
#: Key of a record -> title of its panel.
PANELS = {'seconds': 'time, forward and backward', 'kept_bytes': 'memory kept for backward', 'parameters': 'parameters'}
#: Kind -> its panels: recomputing changes no parameters, and its time is not measured here.
SHOWN = {TWIN: tuple(PANELS), OURS: tuple(PANELS), LIGHT_KIND: ('kept_bytes', )}
#: Kind -> whether the figure at its last point stands above the point.
ABOVE = {TWIN: False, OURS: True, LIGHT_KIND: True}
#: Last letter of a net's name -> line and face of its markers.
SIZES = {'T': ('--', 'white'), 'S': ('-', None)}


def growth(records: list[dict], net: str, kind: str, key: str) -> dict[int, float]:
    """Scale -> how many times as much as the base, the twin at scale 1; of seconds the median over rounds in turn."""
    values = {(record['kind'], record['scale']): record[key] for record in records
              if record['net'] == net and key in record}
    base = values[TWIN, 1]
    return {scale: statistics.median(a / b for a, b in zip(value, base, strict=True)) if key == 'seconds' else
            value / base for (own, scale), value in sorted(values.items()) if own == kind}


def draw(records: list[dict], path: Path) -> None:
    """A row for each family, a panel for each cost, a colour for each kind."""
    import matplotlib
    matplotlib.use('Agg')
    from matplotlib import pyplot as plt

    nets = list(dict.fromkeys(record['net'] for record in records))
    families = list(dict.fromkeys(net[:-2] for net in nets))
    figure, rows = plt.subplots(len(families), len(PANELS), figsize=(11, 0.8 + 3.4 * len(families)), sharey=True,
                                squeeze=False, layout='constrained')
    for row, family in zip(rows, families, strict=True):
        for panel, (key, title) in zip(row, PANELS.items(), strict=True):
            for net in (net for net in nets if net.startswith(family)):
                for kind in (kind for kind, panels in SHOWN.items() if key in panels):
                    _curve(panel, growth(records, net, kind, key), kind, net[-1])
            panel.set(title=f'{family}: {title}', xlabel='scale', xticks=sorted({r['scale'] for r in records}))
            panel.set_xlim(0.75, 0.6 + panel.get_xticks()[-1])  # room for the figures
            panel.grid(alpha=0.3)
        row[0].set_ylabel('times the base')
    entries = [plt.Line2D([], [], color=colour, marker=marker, label=kind)
               for kind, (colour, marker) in STYLES.items()]
    entries += [plt.Line2D([], [], color='grey', linestyle=style, marker='o', markerfacecolor=face or 'grey',
                           label=f'size {size}' + ' (figures)' * (face is None))
                for size, (style, face) in SIZES.items()]
    figure.legend(handles=entries, loc='outside lower center', ncols=len(entries))
    with whole_file(path) as temporary:
        figure.savefig(temporary, format='png', dpi=120)
    plt.close(figure)


def _curve(panel, points: dict[int, float], kind: str, size: str) -> None:
    colour, marker = STYLES[kind]
    line, face = SIZES[size]
    panel.plot(list(points), list(points.values()), line, color=colour, marker=marker, markerfacecolor=face or colour)
    if face is None:  # the other size's last figure is nearly the same
        last = list(points.items())[-1]
        panel.annotate(f'{last[1]:.1f}', last, xytext=(6, 1 if ABOVE[kind] else -1), textcoords='offset points',
                       color=colour, verticalalignment='bottom' if ABOVE[kind] else 'top')
