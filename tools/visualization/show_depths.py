"""Draw which positions of a grown backbone run at which depth.

A row is a depth, a column a position, in the order in which they run; a number is the block, a light field is passed
over. A frame is a use that was added, a triangle a position to which the core's input is added.

    python tools/visualization/show_depths.py configs/scalenet_deit_in1k.py --out depths.png
"""
import argparse
import os
import sys
from pathlib import Path

from mmengine.config import DictAction
from mmengine.logging import MMLogger
from torch import nn

from mmscalenet import Expanded
from mmscalenet.engine import UsageError, one_line_errors, read_config, whole_file
from mmscalenet.expansion import PositionList, position_lists

sys.path.append(str(Path(__file__).resolve().parents[1] / 'analysis_tools'))


def draw(backbone: Expanded, title: str, path: str | os.PathLike) -> None:
    """Write the picture of a backbone, one panel for every list of blocks."""
    import matplotlib
    matplotlib.use('Agg')
    from matplotlib import pyplot as plt

    lists = position_lists(backbone)
    widths = [len(positions.layer_map) for positions in lists.values()]
    rows = max(len(positions.runnable) for positions in lists.values())
    figure, panels = plt.subplots(1, len(lists), squeeze=False, layout='constrained', width_ratios=widths,
                                  figsize=(1.5 + 0.4 * sum(widths) + 0.5 * len(lists), 1.6 + 0.36 * rows))
    for panel, (name, positions) in zip(panels[0], lists.items(), strict=True):
        draw_list(panel, positions)
        panel.set_title(name if len(lists) > 1 else title, fontsize=10)
    if len(lists) > 1:
        figure.suptitle(title)
    panels[0][0].set_ylabel('depth')
    figure.savefig(path, dpi=120, format='png')
    plt.close(figure)


def draw_list(panel, positions: PositionList) -> None:
    """Draw one list of blocks into axes of matplotlib."""
    from matplotlib import colormaps
    from matplotlib.patches import Rectangle

    colours = colormaps['viridis'].resampled(positions.num_base + 1)
    for row, running in enumerate(positions.runnable.values()):
        for p, block in enumerate(positions.layer_map):
            runs = p in running
            panel.add_patch(Rectangle((p - .45, row - .45), .9, .9, facecolor=colours(block) if runs else '0.94',
                                      edgecolor='C3' if runs and positions.added[p] else 'none', linewidth=2))
            if runs:
                panel.text(p, row, str(block), ha='center', va='center', fontsize=8,
                           color='white' if block < positions.num_base * 0.6 else 'black')
            if runs and positions.positions[p].inject is not None and len(running) > positions.num_base:
                panel.text(p - .5, row, '▸', ha='center', va='center', fontsize=9, color='C3')
    panel.set_xlim(-.6, len(positions.layer_map) - .4)
    panel.set_ylim(-.6, len(positions.runnable) - .4)
    panel.set_xticks(range(len(positions.layer_map)))
    panel.set_yticks(range(len(positions.runnable)), [str(depth) for depth in positions.runnable])
    panel.set_xlabel('position')
    panel.tick_params(length=0, labelsize=8)
    for side in panel.spines.values():
        side.set_visible(False)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config')
    parser.add_argument('--out', required=True, metavar='FILE.png')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='key=value settings for the config, e.g. '
                        'model.backbone.layer_map=interleaved')
    return parser.parse_args()


@one_line_errors
def main() -> None:
    from get_flops import build

    args = parse_args()
    MMLogger.get_instance('show_depths', log_level='WARNING')
    cfg = read_config(args.config, args.cfg_options)
    backbone: nn.Module = build(cfg, backbone=True)
    if not isinstance(backbone, Expanded):
        raise UsageError(f'the backbone of "{args.config}" is a {type(backbone).__name__}, which is not grown.')
    options = cfg.model.backbone
    title = ', '.join(f'{key}={options[key]}' for key in ('layer_map', 'core', 'scale') if key in options)
    with whole_file(args.out) as path:
        draw(backbone, title, path)
    print(f'{args.out}: depths {", ".join(map(str, backbone.runnable_depths()))}')


if __name__ == '__main__':
    main()
