"""The command ``mmscalenet``: the scripts of ``tools`` by their names, from any folder and without a checkout."""
import ast
import os
import runpy
import sys
from contextlib import suppress
from pathlib import Path

from mmscalenet import doctor
from mmscalenet.paths import MIM

COMMANDS = (
    'train', 'test', 'dist_train', 'dist_test', 'slurm_train', 'slurm_test', 'grow', 'plan_expansion', 'get_flops',
    'print_config', 'browse_dataset', 'analyze_logs', 'image_demo', 'demo', 'show_depths', 'export_onnx',
    'check_deployment', 'to_plain', 'convert_backbone', 'dinov2_from_onnx', 'fashion_scenes', 'prepare_fashion_mnist',
    'benchmark_backbone', 'benchmark_config', 'check_drop_in', 'cost_growth', 'doctor')
#: Commands whose script has another name.
SCRIPTS = {'demo': 'demo_page'}


def script_of(command: str) -> Path:
    """The file that a command runs."""
    if command == 'doctor':
        return Path(doctor.__file__)
    found = (MIM / 'tools').resolve().rglob(f'{SCRIPTS.get(command, command)}.*')
    return next(path for path in found if path.suffix in ('.py', '.sh'))


def summary(script: Path) -> str:
    """What a script does: the first line of its docstring, or of the comment on its top."""
    text = script.read_text()
    about = text.split('\n')[1].removeprefix('# ') if script.suffix == '.sh' else ast.get_docstring(ast.parse(text))
    return about.split('\n')[0]


def usage() -> str:
    lines = [f'  {command:<21} {summary(script_of(command))}' for command in COMMANDS]
    return '\n'.join(['usage: mmscalenet COMMAND [arguments]; mmscalenet COMMAND --help says which', '', *lines])


def main() -> None:
    """Run the script of the command that the first argument names, with the others; without one, list all.

    Raises:
        SystemExit: If there is no such command, and where the script ends with an exit code.
    """
    command, *arguments = sys.argv[1:] or ['--help']
    if command in ('-h', '--help'):
        with suppress(BrokenPipeError):  # `| head` has seen enough
            print(usage(), flush=True)
        return
    if command not in COMMANDS:
        print(f'error: mmscalenet has no command "{command}"; `mmscalenet` alone lists all.', file=sys.stderr)
        sys.exit(2)
    script = str(script_of(command))
    if script.endswith('.sh'):
        os.environ['PYTHON'] = sys.executable
        os.execvp('bash', ['bash', script, *arguments])
    sys.argv = [script, *arguments]
    if command == 'doctor':
        sys.exit(doctor.main())
    sys.path.insert(0, os.path.dirname(script))  # as Python does for a script, which imports others beside it
    runpy.run_path(script, run_name='__main__')


if __name__ == '__main__':
    main()
