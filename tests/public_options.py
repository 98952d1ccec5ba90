"""All that users may write, so that none of it appears, goes or changes unnoticed.

    python tests/public_options.py  # writes public_options.json anew; look at the difference before it is committed
"""
import argparse
import inspect
import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

from mmengine.registry import Registry

import mmscalenet
from mmscalenet import apis, registry
from mmscalenet.expansion import expand

ROOT = Path(__file__).resolve().parents[1]
FILE = Path(__file__).with_suffix('.json')
#: Tools of those who work on the project itself, and what the shell scripts call.
INTERNAL = ('dev', 'study', 'dist_launch.py')


class _Parsed(Exception):
    """Carries the parser out of a script that is about to use it."""


def _stop(parser: argparse.ArgumentParser, *args, **kwargs) -> None:
    raise _Parsed(parser)


def command_line(script: Path) -> list[str] | None:
    """The arguments of a script with their defaults; None for a module that is no script."""
    if "__name__ == '__main__'" not in script.read_text():
        return None
    with patch.object(argparse.ArgumentParser, 'parse_args', _stop), patch.object(sys, 'argv', [str(script)]), \
            patch.object(sys, 'path', [str(script.parent), *sys.path]):
        try:
            runpy.run_path(str(script), run_name='__main__')
        except _Parsed as parsed:
            actions = parsed.args[0]._actions
            return sorted(' '.join(filter(None, [
                '/'.join(action.option_strings) or action.dest, f'nargs={action.nargs}' if action.nargs else '',
                f'choices={sorted(action.choices)}' if action.choices else '',
                f'default={action.default!r}'.replace(f'{ROOT}/', '')])) for action in actions if action.dest != 'help')
    raise RuntimeError(f'{script} has ended without reading its arguments')


def parameters(function: Callable) -> list[str]:
    """Names and defaults."""
    return [name if parameter.default is parameter.empty else f'{name}={parameter.default!r}'
            for name, parameter in inspect.signature(function).parameters.items()
            if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)]


def own_parameters(registered: Callable) -> list[str]:
    """Of a class those that this project gave it."""
    if inspect.isclass(registered):
        first = next(cls for cls in registered.__mro__ if '__init__' in vars(cls))
        return parameters(registered) if first.__module__.startswith('mmscalenet.') else []
    return parameters(registered)


def registered() -> dict[str, list[str]]:
    """What configs may name as ``mmscalenet.X``."""
    result = {}
    for one in vars(registry).values():
        if isinstance(one, Registry) and one.scope == 'mmscalenet':
            one.import_from_location()
            result |= {name: own_parameters(module) for name, module in one.module_dict.items()
                       if module.__module__.startswith('mmscalenet.')}
    return dict(sorted(result.items()))


def public_options() -> dict[str, dict]:
    scripts = {str(path.relative_to(ROOT)): command_line(path) for path in sorted(ROOT.glob('tools/**/*.py'))
               if not set(INTERNAL) & set(path.parts)}
    return dict(
        command_lines={name: options for name, options in scripts.items() if options is not None},
        shell_scripts=sorted(str(path.relative_to(ROOT)) for path in ROOT.glob('tools/*.sh')),
        registered=registered(),
        expand=parameters(expand),
        names=dict(mmscalenet=sorted(mmscalenet.__all__), apis=sorted(apis.__all__)),
        configs=sorted(str(path.relative_to(ROOT)) for path in ROOT.glob('configs/**/*.py')))


def main() -> None:
    FILE.write_text(json.dumps(public_options(), indent=1) + '\n')


if __name__ == '__main__':
    main()
