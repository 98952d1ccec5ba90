"""What the entry scripts share: common arguments and the config they lead to."""
import argparse
import difflib
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from mmengine.config import Config, ConfigDict, DictAction
from mmengine.fileio import load

from mmscalenet.checkpoints.errors import one_line
from mmscalenet.paths import MIM

from .errors import UsageError

LIBRARIES = ('mmpretrain', 'mmdet', 'mmseg')


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--work-dir', help='folder of logs and checkpoints; ./work_dirs/CONFIG_NAME if neither this '
                        'nor the config names one')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='settings that override the config\'s, '
                        'as key=value; a list is written key="[a,b]" or key=a,b, nested ones key="[(a,b),(c,d)]"; '
                        'blanks in a value are dropped')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none',
                        help='what started the processes; the dist_*.sh and slurm_*.sh scripts set it')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def read_config(path: str, options: dict | None = None) -> Config:
    """Read a config file and merge ``options`` into it.

    A config in mmengine's newer style names classes and no ``default_scope``; it gets that of its model's library.

    Args:
        path (str): The config file. One that is not there is looked for among those of this package, with or without
            the leading ``configs/``.
        options (dict, optional): Settings by their dotted names. Defaults to None.

    Raises:
        UsageError: If the config, or one that it builds on, does not exist, or it holds no settings.
    """
    found = next((str(file) for file in (path, MIM / path, MIM / 'configs' / path) if os.path.isfile(file)), None)
    if found is None:
        raise UsageError(f'config "{path}" does not exist. {_similar(path)}')
    if not found.endswith('.py'):
        _check_settings(path, found)
    try:
        cfg = Config.fromfile(found)
    except FileNotFoundError as error:
        raise UsageError(f'config "{path}" builds on a file that does not exist: {error}. Mend its _base_.') from error
    cfg.merge_from_dict(options or {})
    use_scope_of_library(cfg)
    return cfg


def _check_settings(path: str, found: str) -> None:
    """Of a file that is not Python, which mmengine takes to hold a dict."""
    try:
        content = load(found)
    except Exception as error:  # of as many kinds as there are formats
        raise UsageError(f'config "{path}" cannot be read ({type(error).__name__}: {one_line(error)}). Give a Python, '
                         'JSON or YAML file of settings.') from error
    if not isinstance(content, dict):
        raise UsageError(f'config "{path}" holds a {type(content).__name__} and no settings by their names; it may be '
                         'a file of results. Give the config.')


def backbone_of(cfg: Config) -> ConfigDict:
    """The backbone's part of a config.

    Raises:
        UsageError: If the model has none of its own, as one that holds a whole detector.
    """
    backbone = cfg.get('model', {}).get('backbone')
    if backbone is None:
        raise UsageError('the config has no model.backbone. Of a model that holds another, as SoftTeacher does its '
                         'detector, give the config of that one.')
    return backbone


def use_scope_of_library(cfg: Config) -> None:
    """Let the unscoped classes of a config be those of its model's library.

    Where it inherits from ``'mmscalenet::...'``, mmengine marks parts as of our scope, in which no library's are found.
    """
    if 'mmscalenet::' in cfg.text:
        _drop_our_scope(cfg._cfg_dict)
    if library_of(cfg):
        cfg.default_scope = library_of(cfg)


def load_config(args: argparse.Namespace) -> Config:
    """Read the config that the arguments name, and merge the common arguments into it.

    Raises:
        UsageError: If the config, or one that it builds on, does not exist.
    """
    # before the process group is there, only the launcher's variables tell the processes of a machine apart
    launched = os.environ.get('SLURM_LOCALID' if args.launcher == 'slurm' else 'OMPI_COMM_WORLD_LOCAL_RANK')
    os.environ.setdefault('LOCAL_RANK', launched if launched and args.launcher != 'none' else str(args.local_rank))
    cfg = read_config(args.config, args.cfg_options)
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = os.path.join('./work_dirs', Path(args.config).stem)
    return cfg


def require(cfg: Config, *names: str) -> None:
    """See that the config has all of these parts, without which mmengine's runner does not train or test.

    Raises:
        UsageError: If one is missing and no ``runner_type`` names a runner that may do without it.
    """
    missing = [name for name in names if cfg.get(name) is None]
    if missing and 'runner_type' not in cfg:
        raise UsageError(f'the config has no {", ".join(missing)}. Inherit what is missing, e.g. from a schedule and a '
                         'data set in the _base_ folder of its library, or write it.')


def command_of(script: Path) -> str:
    """How people call one of the tools, as they called the one that runs: ``mmscalenet train``, or by its path."""
    called = sys.orig_argv[1:3]
    if called[:1] and Path(called[0]).name == 'mmscalenet' or called == ['-m', 'mmscalenet']:
        return f'mmscalenet {script.stem}'
    return f'python {os.path.relpath(script)}'


def library_of(cfg: Config) -> str | None:
    """The ``default_scope`` of a config; where there is none, the library that the class of its model is from."""
    if cfg.get('default_scope') is not None:
        return cfg.default_scope
    kind = (cfg.get('model') or {}).get('type', '')
    names = [kind] if isinstance(kind, str) else [base.__module__ for base in kind.__mro__]
    return next((library for name in names for library in LIBRARIES if name.split('.')[0] == library), None)


def full_type(part: dict) -> str:
    """The ``type`` of a part of a config as a string, also where it is a class: then with the module's name."""
    kind = part.get('type', '')
    return kind if isinstance(kind, str) else f'{kind.__module__}.{kind.__name__}'


def short_type(part: dict) -> str:
    """The name alone of the ``type`` of a part of a config, which may be a class or have a scope."""
    return full_type(part).rpartition('.')[2]


def datasets(cfg: Config, splits: Iterable[str] = ('train', 'val', 'test')) -> Iterator[dict]:
    """The data sets of the loaders, those inside wrappers included."""
    waiting = [(cfg.get(f'{split}_dataloader') or {}).get('dataset') for split in splits]
    while waiting:
        dataset = waiting.pop(0)
        if isinstance(dataset, dict):
            yield dataset
            waiting += [dataset.get('dataset'), *(dataset.get('datasets') or [])]


def _drop_our_scope(part: dict | list | tuple) -> None:
    if isinstance(part, dict) and part.get('_scope_') == 'mmscalenet':
        del part['_scope_']
    for value in part.values() if isinstance(part, dict) else part:
        if isinstance(value, (dict, list, tuple)):
            _drop_our_scope(value)


def _similar(path: str) -> str:
    root = (MIM / 'configs').resolve()
    configs = {file.name: file for file in root.rglob('*.py') if '_base_' not in file.parts}
    close = difflib.get_close_matches(Path(path).with_suffix('.py').name, configs, n=3)
    if not close:
        return f'The configs of this project are in {root}.'
    return f'Did you mean {" or ".join(os.path.relpath(configs[name]) for name in close)}?'
