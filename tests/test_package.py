"""The package as a whole: what it imports, what it pulls in, how it installs."""
import ast
import os
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = ('torch', 'mmcv', 'mmengine', 'mmdet', 'mmseg', 'mmpretrain', 'onedl')


def test_importing_it_imports_no_task_library():
    code = ('import sys, mmscalenet; '
            'print([m for m in ("mmdet", "mmseg", "mmpretrain", "timm", "scipy") if m in sys.modules])')
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == '[]'


@pytest.mark.parametrize('package, allowed', [
    ('expansion', {'mmscalenet.registry', 'mmscalenet.tables'}),
    ('checkpoints', {'mmscalenet.registry', 'mmscalenet.expansion'}),
    ('apis', {'mmscalenet.checkpoints', 'mmscalenet.engine'}),
    ('models', {'mmscalenet.registry', 'mmscalenet.expansion', 'mmscalenet.checkpoints'}),
])
def test_no_package_imports_one_above_it(package, allowed):
    for path in (ROOT / 'mmscalenet' / package).rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else (
                [node.module or ''] if isinstance(node, ast.ImportFrom) and not node.level else [])
            for name in names:
                if name.split('.')[0] == 'mmscalenet':
                    assert '.'.join(name.split('.')[:2]) in allowed | {f'mmscalenet.{package}'}, (path, name)


def test_installing_pulls_nothing_heavy():
    needed = [line for line in requires('mmscalenet') or [] if 'extra ==' not in line]
    assert not [line for line in needed if line.lower().startswith(HEAVY)]
    extras = {line.split('extra == ')[1].strip('"\'') for line in requires('mmscalenet') if 'extra ==' in line}
    assert extras == {'onedl', 'openmmlab', 'demo'}


def test_a_wrong_python_is_refused_with_the_way_out(tmp_path):
    if sys.version_info[:2] == (3, 10):
        pytest.skip('3.10 suits both stacks')
    command = [sys.executable, ROOT / 'tools/dev/install.py', '--venv', tmp_path / 'venv', '--stack', 'openmmlab']
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode and 'needs Python 3.10' in done.stderr and 'PYTHON=' in done.stderr
    assert not os.listdir(tmp_path)
