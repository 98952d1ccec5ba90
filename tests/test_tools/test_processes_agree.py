"""Processes that would train different nets without a word."""
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / 'tools'
#: Prints a sum over the backbone in every process, at the start and at the end.
WATCH = """
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module(force=True)
class Watch(Hook):
    def before_train(self, runner):
        parts = {name: value.double().sum().item() for name, value in runner.model.module.backbone.state_dict().items()}
        own = sum(value for name, value in parts.items() if '.positions.' in name)
        print(f'SUM {runner.rank} {own:.12f} {sum(parts.values()):.12f}', flush=True)

    after_train = before_train
"""

pytestmark = pytest.mark.slow


def test_what_positions_own_starts_alike(cls_fields, write_config, tool, shell, tmp_path, monkeypatch):
    """Also where each process has a seed of its own, as fine-tuning configs of mmpretrain ask for."""
    base = dict(cls_fields, model=dict(cls_fields['model'], backbone=dict(cls_fields['model']['backbone'], scale=1,
                                                                          adapter=None)))
    tool('train.py', write_config(base, 'base'), '--no-validate')
    (tmp_path / 'watch.py').write_text(WATCH)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv('PYTHONPATH', str(tmp_path), prepend=os.pathsep)
    grown = dict(cls_fields, load_from=str(tmp_path / 'work_dirs/base/epoch_3.pth'), custom_hooks=[dict(type='Watch')],
                 randomness=dict(seed=0, diff_rank_seed=True), find_unused_parameters=True,
                 custom_imports=dict(imports=['mmscalenet', 'watch'], allow_failed_imports=False))
    result = shell('bash', TOOLS / 'dist_train.sh', write_config(grown, 'grown'), 2, '--no-validate',
                   PYTHON=sys.executable, PYTHON_EXEC=sys.executable, PATH=os.environ['PATH'])
    assert result.returncode == 0, result.stderr[-3000:]
    said = {rank: re.findall(rf'SUM {rank} (\S+ \S+)', result.stdout) for rank in (0, 1)}
    assert len(said[0]) == 2 and said[0][0] != said[0][1] and said[0] == said[1]


def test_machines_that_see_other_checkpoints(cls_fields, write_config, tool, tmp_path):
    """Two machines of one process each, of which one has the work directory."""
    config = write_config(cls_fields)
    tool('train.py', config, '--no-validate', '--cfg-options', 'train_cfg.max_epochs=1')
    (tmp_path / 'other').mkdir()
    with socket.socket() as free:
        free.bind(('localhost', 0))
        port = free.getsockname()[1]
    processes = []
    for rank, folder in enumerate((tmp_path, tmp_path / 'other')):
        env = os.environ | dict(RANK=str(rank), LOCAL_RANK='0', WORLD_SIZE='2', MASTER_ADDR='localhost',
                                MASTER_PORT=str(port), PYTHONPATH=str(TOOLS.parent))
        processes.append(subprocess.Popen(
            [sys.executable, TOOLS / 'train.py', config, '--launcher', 'pytorch', '--no-validate', '--resume'],
            cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    for process in processes:
        errors = process.communicate(timeout=300)[1]
        assert process.returncode == 2
        assert 'error: the processes would go on from different checkpoints (process 0 at iteration 2, process 1 at ' \
            'iteration 0)' in errors
    assert not (tmp_path / 'other/work_dirs/tiny/epoch_1.pth').exists()
