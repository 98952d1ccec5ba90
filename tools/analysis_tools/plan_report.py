"""What plan_expansion.py says: on the terminal, in markdown and in JSON."""
import argparse
import json
import os
import shlex
import sys
from pathlib import Path

import torch
from get_flops import table
from plan_budgets import Row, amount, number

from mmscalenet.engine import whole_file
from mmscalenet.tables import align


def head(rows: list[Row], shape: tuple[int, int, int], args: argparse.Namespace) -> list[str]:
    """What was planned, what fits, and what the columns are."""
    limits, fitting = rows[0].limits, [row for row in rows if not row.excess()]
    scope = 'backbone alone' if args.backbone else 'whole model'
    base = next(row for row in rows if row.candidates[0].ratio is None and row.depth == min(r.depth for r in rows))
    lines = [
        f'{args.config}, {scope}, image {"x".join(map(str, shape))}, budget: '
        + ', '.join(amount(name, limit) for name, limit in limits.items()) + '.',
        f'The base: {", ".join(amount(name, base.values()[name]) for name in ("params", "gflops"))}, '
        f'{number(base.figures.activations / 2**20)} MiB of activations, '
        f'{number(base.figures.checkpointed / 2**20)} with checkpointing.',
    ]
    if fitting:
        lines.append(f'{len(fitting)} of {len(rows)} sizes (depth and width of adapters) fit'
                     + (f'; the first {args.top} of them:' if len(fitting) > args.top else ':'))
    else:
        lines.append(f'Nothing fits. The nearest of {len(rows)} sizes (depth and width of adapters) takes '
                     f'{rows[0].shortfall()}:')
    return lines


def notes(rows: list[Row], args: argparse.Namespace) -> list[str]:
    """What the columns are."""
    lines = [
        'multiply-adds: of one image in inference, half of the FLOPs; --gflops is in these.',
        'activations: what one image in training keeps for the backward pass, in fp32; cp: with_cp=True, with what the '
        'largest position adds while it is recomputed.',
        f'memory: 16 bytes for each trained parameter (fp32, AdamW) and {args.batch_size} x activations.',
        "options: for model.backbone. The maps of a row cost the same; 'core C' is layer_map='middle_cycle', core=C.",
    ]
    if 'type' in dict(rows[0].candidates[0].options):
        lines.append("type: the config needs custom_imports=dict(imports=['mmscalenet'], allow_failed_imports=False).")
    if not args.no_latency:
        lines.insert(3, f'latency: median of {args.runs} passes of one image in inference, {args.device}, '
                     f'{torch.get_num_threads()} thread(s).')
    return lines


def _cells(row: Row) -> dict[str, str]:
    figures = row.figures
    memory, checkpointed = (figures.memory(row.batch, with_cp) / 2**30 for with_cp in (False, True))
    cells = {
        'positions': '+'.join(map(str, figures.positions)),
        'M parameters': f'{figures.parameters / 1e6:.3f}',
        'G multiply-adds': number(figures.multiply_adds / 1e9),
        'MiB activations': number(figures.activations / 2**20),
        'MiB with cp': number(figures.checkpointed / 2**20),
        'GiB memory': number(memory),
        'GiB with cp': number(checkpointed),
    }
    if figures.seconds is not None:
        cells['ms latency'] = number(row.values()['latency'] * 1e3)
    maps = ', '.join(candidate.map_name for candidate in row.candidates)
    return cells | {'maps': maps, 'options': row.text(row.candidates[0])}


def _shown(rows: list[Row], args: argparse.Namespace) -> list[dict[str, str]]:
    return [_cells(row) for row in rows if not row.excess()][:args.top] or [_cells(rows[0])]


def terminal(rows: list[Row], args: argparse.Namespace) -> str:
    shown = _shown(rows, args)
    return '\n'.join([align([list(shown[0]), *(list(cells.values()) for cells in shown)]), '', *notes(rows, args)])


def write_markdown(lines: list[str], rows: list[Row], args: argparse.Namespace) -> None:
    command = shlex.join(['python', os.path.relpath(sys.argv[0]), *sys.argv[1:]])
    shown = [{name: f'`{cell}`' if name == 'options' else cell for name, cell in cells.items()}
             for cells in _shown(rows, args)]
    parts = [f'Made by `{command}` with torch {torch.__version__}.', *lines, table(shown),
             '\n'.join(f'- {note}' for note in notes(rows, args))]
    if args.plot:
        parts.append(f'![Cost over depth]({os.path.relpath(args.plot, Path(args.out).parent)})')
    with whole_file(args.out) as path:
        path.write_text('\n\n'.join(parts) + '\n')


def write_json(rows: list[Row], shape: tuple[int, int, int], args: argparse.Namespace) -> None:
    """All sizes, those that fit first; numbers are parameters, multiply-adds, bytes and seconds."""
    plan = dict(config=args.config, backbone_alone=args.backbone, shape=shape, batch_size=args.batch_size,
                device=args.device, threads=torch.get_num_threads(), torch=torch.__version__, budgets=rows[0].limits,
                rows=[_record(row) for row in rows])
    with whole_file(args.json) as path:
        path.write_text(json.dumps(plan, indent=1) + '\n')


def _record(row: Row) -> dict[str, object]:
    figures = row.figures
    return dict(
        positions=figures.positions,
        parameters=figures.parameters,
        parameters_trained=figures.trained,
        multiply_adds=figures.multiply_adds,
        activations=figures.activations,
        activations_checkpointed=figures.checkpointed,
        memory=figures.memory(row.batch, False),
        memory_checkpointed=figures.memory(row.batch, True),
        latency=row.values()['latency'],
        latency_is_measured=row.latency is not None,
        fits=not row.excess(),
        exceeds=row.excess(),
        options=[dict(text=row.text(candidate), arguments=row.arguments(candidate)) for candidate in row.candidates])
