"""The nets that plan_expansion.py builds, counts and times."""
import argparse
import copy
import sys

import torch
from get_flops import build, image_shape
from mmengine.config import Config
from plan_budgets import Row, in_order
from plan_candidates import Blocks, candidates
from plan_costs import CostModel, EmptyWeights, latency

from mmscalenet.engine import UsageError, full_type
from mmscalenet.engine.grown_config import scalenet_options
from mmscalenet.expansion import position_lists
from mmscalenet.expansion.families import window_period
from mmscalenet.models.backbones.scalenet import depth_is_its_parents

#: Options of the base, and of every candidate that does not say otherwise.
BASE = dict(scale=1, layer_map='cyclic', core=None, adapter=None, depth=None)
#: How far an estimate of the latency may be above the budget for the net to be measured.
MARGIN = 1.2


class Search:
    """Builds nets of a config and holds them against the budgets.

    Args:
        cfg (Config): The config.
        args (argparse.Namespace): The command line.
        limits (dict[str, float]): The budgets.
    """

    def __init__(self, cfg: Config, args: argparse.Namespace, limits: dict[str, float]) -> None:
        self.args, self.limits = args, limits
        self.leading = scalenet_options(cfg)
        own = cfg.model.backbone.get('adapter') or {}
        self.adapter = {key: value for key, value in own.items() if key not in ('type', 'ratio')
                        } if full_type(own).endswith('ParallelAdapter') else {}
        parents = ('depth', ) if depth_is_its_parents(dict(cfg.model.backbone) | self.leading) else ()
        self.reset = [name for name in ('core', 'depth')
                      if cfg.model.backbone.get(name) is not None and name not in parents]
        cfg.model.backbone.update(self.leading | {name: value for name, value in BASE.items() if name not in parents})
        self.cfg = cfg
        size = args.shape or image_shape(cfg)
        self.shape = (cfg.model.backbone.get('in_channels', 3), size[0], size[-1])

    def build(self, backbone: bool, **options) -> torch.nn.Module:
        cfg = copy.deepcopy(self.cfg)
        cfg.model.backbone.update(options)
        return build(cfg, backbone)

    def rows(self) -> list[Row]:
        """All sizes, in order, by what was measured piece by piece."""
        say('measuring the base')
        base = self.build(self.args.backbone, with_cp=True).to(self.args.device)
        costs = CostModel(base, self.shape, 0 if self.args.no_latency else self.args.runs)
        lists = [Blocks(len(positions), window_period(positions.blocks))
                 for positions in position_lists(base).values()]
        rows: dict[tuple, Row] = {}
        refused = 0
        for candidate in candidates(lists, self.args.max_scale, self.leading, self.adapter, self.reset):
            try:
                with EmptyWeights():
                    net = self.build(True, **candidate.arguments())
            except UsageError:  # the base was built, so it is this map that its other options do not go with
                refused += 1
                continue
            figures = costs.figures(net)
            size = figures, candidate.ratio
            if size not in rows:
                say(f'added up {candidate.text}')
                rows[size] = Row(figures, [], self.args.batch_size, self.limits)
            rows[size].candidates.append(candidate)
        if refused:
            say(f'left out: {refused} that do not go with other options of the config')
        return in_order(list(rows.values()))

    def measure(self, row: Row) -> None:
        """Times the net of a row."""
        say(f'timing {row.candidates[0].text}')
        model = self.build(self.args.backbone, **row.candidates[0].arguments()).to(self.args.device)
        row.latency = latency(model, self.shape, self.args.runs)

    def measure_first(self, rows: list[Row]) -> list[Row]:
        """Times as many rows that fit as are shown; if none fits, the nearest. In order again."""
        limit, found = MARGIN * self.limits.get('latency', float('inf')), 0
        for row in sorted(rows, key=lambda row: row.rank):
            if found < self.args.top and row.figures.seconds <= limit and not row.excess().keys() - {'latency'}:
                self.measure(row)
                found += not row.excess()
        rows = in_order(rows)
        while rows[0].latency is None:  # a time may be longer than was thought, and another row be the nearest then
            self.measure(rows[0])
            rows = in_order(rows)
        return rows


def say(text: str) -> None:
    """Progress, apart from the result."""
    print(text, file=sys.stderr, flush=True)
