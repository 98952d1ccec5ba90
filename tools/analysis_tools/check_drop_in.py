"""Does ScaleNet drop into the configs that people have? Tries every config that ships with the task libraries.

Every config of the installed mmpretrain, mmdet and mmseg whose backbone is of a family that can be expanded
(:mod:`mmscalenet.expansion.families`) is run twice at reduced size: as it is, and with the lines that make it a
ScaleNet of ``scale=2``. Each time the model is built and initialised, predicts, and takes a training step on random
images; models that pretrain take the step alone. The base's weights come from a file with those of the unchanged
backbone, named where the config names its own; afterwards every tensor of the file must be in the expanded backbone bit
for bit, nothing but what positions own may be new, the gradient must reach the same parameters as before, and the
config's optimizer must treat each of them as before.

The text encoder of GLIP and GroundingDINO is replaced by a small random one if ``transformers`` is installed (for the
table in docs/results ``pip install transformers==4.46.3``; GLIP of mmdet 3.5.1 does not run with much later ones).

    python tools/analysis_tools/check_drop_in.py --type ScaleNetDeiT ScaleNetSwin --out docs/results/drop_in.md
    python tools/analysis_tools/check_drop_in.py --type ScaleNet --out docs/results/drop_in_families.md
    python tools/analysis_tools/check_drop_in.py --library mmdet --filter 'swin/' --out work_dirs/drop_in.md

Results are kept in a json: the same call goes on where it was stopped, and tries again what failed.
"""
import argparse
import gc
import importlib.metadata
import importlib.util
import json
import multiprocessing
import multiprocessing.connection
import os
import re
import shlex
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from drop_in_trial import WHOLE, check_config
from mmengine.config import Config

from mmscalenet.engine import UsageError, one_line_errors, whole_file

LIBRARIES = ('mmpretrain', 'mmdet', 'mmseg')
TYPES = ('ScaleNet', 'ScaleNetDeiT', 'ScaleNetSwin')
#: Stands in the report below the totals.
WHAT_RAN = '''\
What ran of a config: the whole model; prediction only, where it cannot train; its features, where it has no head;
training only, at full width, where the model pretrains (a ViT of more than 12 layers with 12); the backbone alone,
where the config does not run unchanged either, as it needs e.g. a package or a download that is missing (the remark
says which). Refused: the backbone cannot be expanded (the remark says why) and was not tried. Mended: GroundingDINO
of mmdet 3.5.1 does not run, as `ref_point_head` of its decoder has the wrong width; here it has the right one,
before and after. Except of a backbone alone, the optimizer of the config was built, too: each parameter of the base
has to have the learning rate and the weight decay that it had before.'''


def config_folder(library: str) -> Path:
    return Path(importlib.util.find_spec(library).origin).parent / '.mim' / 'configs'


class Worker:
    """A process that checks configs one after another, and is replaced when one takes too long or kills it."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context('spawn')
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=serve, args=(other, ), daemon=True)
        self.process.start()
        other.close()

    def check(self, library: str, path: str, types: list[str], limit: float) -> dict | None:
        try:
            self.pipe.send((library, path, types))
            if self.pipe.poll(limit):
                return self.pipe.recv()
            error = f'took more than {limit:g} s'
        except (EOFError, OSError):
            error = 'the process died, e.g. of too little memory'
        self.process.kill()
        self.process.join()
        self._start()
        return dict(backbone='?', ran=WHOLE, before=error, after=error, note='', seconds=limit)


def serve(pipe: multiprocessing.connection.Connection) -> None:
    torch.set_num_threads(1)
    sys.stdout = sys.stderr = open(os.devnull, 'w')
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        pipe.send(check_config(*task))
        gc.collect()


def list_configs(args: argparse.Namespace) -> Iterator[tuple[str, str, str]]:
    """Library, name and path of every config to look at."""
    for path in args.configs:
        yield Config.fromfile(path).get('default_scope', 'mmengine'), path, path
    for library in [] if args.configs else args.library:
        folder = config_folder(library)
        for path in sorted(folder.rglob('*.py')):
            name = str(path.relative_to(folder))
            if '_base_' not in path.parts and re.search(args.filter, name):
                yield library, name, str(path)


def versions() -> dict[str, str]:
    """What the results depend on."""
    distributions = importlib.metadata.packages_distributions()
    return {name: importlib.metadata.version(distributions[name][0]) if name in distributions else 'not installed'
            for name in (*LIBRARIES, 'torch', 'transformers')}


def walk(args: argparse.Namespace) -> dict[str, dict]:
    """Checks every config, and writes results and table after each; gives the results by library and name."""
    cache_file, now = Path(args.cache or Path(args.out).with_suffix('.json')), versions()
    types = sorted(args.type)
    known = json.loads(cache_file.read_text()) if cache_file.exists() else dict(versions=now, types=types, results={})
    if known['versions'] != now:
        raise UsageError(f'{cache_file} holds results of {known["versions"]}, and installed is {now}. Name another '
                         'file with --cache, or remove this one.')
    if known['types'] != types:
        raise UsageError(f'{cache_file} holds results of --type {" ".join(known["types"])}. Give the same types, or '
                         'name another file with --cache.')
    results = known['results']
    configs = {f'{library} {name}': (library, path) for library, name, path in list_configs(args)}
    if not configs:
        raise UsageError(f'no config of {", ".join(args.library)} has "{args.filter}" in its path.')
    own, lock = threading.local(), threading.Lock()

    def save() -> dict[str, dict]:
        done = {key: results[key] for key in configs if key in results}
        rows = {key: row for key, row in done.items() if row is not None}
        with whole_file(cache_file) as temporary:
            temporary.write_text(json.dumps(dict(versions=now, types=types, results=results), indent=1))
        with whole_file(args.out) as temporary:
            temporary.write_text(report(rows, f'{len(done)} of {len(configs)} config files looked at', now))
        return rows

    def check(key: str) -> None:
        library, path = configs[key]
        if not hasattr(own, 'worker'):
            own.worker = Worker()
        row = own.worker.check(library, path, types, args.limit)
        with lock:
            results[key] = row
            save()
            if row is not None:
                print(f'{key}  {row["ran"]}  before: {row["before"] or "yes"}  after: {row["after"] or "yes"}  '
                      f'{row["seconds"]:.1f} s', flush=True)

    with ThreadPoolExecutor(args.jobs) as pool:
        list(pool.map(check, [key for key in configs if key not in results or _failed(results[key])]))
    return save()


def _failed(row: dict | None) -> bool:
    return row is not None and bool(row['before'] or row['after'])


def report(results: dict[str, dict], extent: str, now: dict[str, str]) -> str:
    """The page: command, versions, totals, the table, and what could not be read at all."""
    rows, unreadable = split(results)
    lines = ['# Drop-in', '', '```shell', f'python {shlex.join(sys.argv)}', '```', '',
             ', '.join(f'{name} {version}' for name, version in now.items())
             + f'. {extent}, {len(rows)} of them in the table.', '',
             *totals(rows), '', WHAT_RAN, '',
             '| library | config | base backbone | what ran | before | after | seconds | remark |',
             '|---|---|---|---|---|---|---:|---|']
    for key, row in rows.items():
        library, name = key.split(maxsplit=1)
        lines.append(f'| {library} | {name} | {row["backbone"]} | {row["ran"]} | {row["before"] or "yes"} | '
                     f'{row["after"] or "yes"} | {row["seconds"]:.1f} | {row["note"]} |')
    if unreadable:
        lines += ['', f'{len(unreadable)} config files cannot be read as they ship, whatever their backbone:', '',
                  '| library | config | reason |', '|---|---|---|']
        lines += [f'| {" | ".join(key.split(maxsplit=1))} | {row["before"]} |' for key, row in unreadable.items()]
    # errors name files of this machine in full
    return '\n'.join([*lines, '']).replace(f'{config_folder(LIBRARIES[0]).parents[2]}/', '')


def split(results: dict[str, dict]) -> tuple[dict[str, dict], dict[str, dict]]:
    """The configs with a backbone of ours, and those that could not be read."""
    rows = {key: row for key, row in results.items() if row['backbone']}
    return rows, {key: row for key, row in results.items() if key not in rows}


def totals(rows: dict[str, dict]) -> list[str]:
    groups = sorted({(key.split()[0], row['ran']) for key, row in rows.items()})
    lines = ['| library | what ran | configs | before | after |', '|---|---|---:|---:|---:|']
    for library, ran in [*groups, ('all', '')]:
        chosen = [row for key, row in rows.items() if not ran or (key.split()[0], row['ran']) == (library, ran)]
        lines.append(f'| {library} | {ran} | {len(chosen)} | {sum(not row["before"] for row in chosen)} | '
                     f'{sum(not row["before"] and not row["after"] for row in chosen)} |')
    return lines


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('configs', nargs='*', help='config files of your own, instead of those that ship '
                        '(--library and --filter choose among these)')
    parser.add_argument('--library', nargs='+', choices=LIBRARIES, default=LIBRARIES)
    parser.add_argument('--type', nargs='+', choices=TYPES, default=TYPES,
                        help='what the backbones become; default: whatever they can')
    parser.add_argument('--filter', default='', help='regular expression that the path of a config must contain')
    parser.add_argument('--out', required=True, help='markdown file to write')
    parser.add_argument('--cache', help='json file in which results are kept; default: beside the markdown file')
    parser.add_argument('--jobs', type=int, default=1, help='configs at the same time; default: 1')
    parser.add_argument('--limit', type=float, default=300, help='seconds a config may take; default: 300')
    return parser.parse_args()


@one_line_errors
def main() -> None:
    args = parse_args()
    for path in args.configs:
        if not os.path.isfile(path):
            raise UsageError(f'config "{path}" does not exist.')
    os.environ['HF_HUB_OFFLINE'] = '1'  # for the workers: nothing is downloaded
    rows = walk(args)
    for path in args.configs:
        if not any(key.endswith(f' {path}') for key in rows):
            print(f'{path}  passed over: no part of its model can become {" or ".join(args.type)}, or one is that '
                  'already')
    if args.configs and not rows:
        raise UsageError('none of these configs can be tried.')
    print('\n'.join(totals(split(rows)[0])))
    print(f'wrote {args.out}')
    sys.exit(any(row['after'] for row in rows.values() if not row['before']))


if __name__ == '__main__':
    main()
