"""The command mmscalenet, and configs found without the path of a checkout."""
import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import packaging
import pytest
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.registry import MODELS, init_default_scope

import mmscalenet
from mmscalenet.__main__ import COMMANDS, main, script_of
from mmscalenet.compat import installed
from mmscalenet.engine import UsageError, read_config
from mmscalenet.engine.grown_config import read_base
from mmscalenet.expansion import position_lists

ROOT = Path(__file__).resolve().parents[1]
#: Scripts that are no commands, and why.
NO_COMMAND = {
    'reproduce.py': 'trains in a checkout, beside its data and work_dirs',
    'dist_launch.py': 'what dist_train and dist_test share',
    'slurm_run.sh': 'what slurm_train and slurm_test share',
}


def run(monkeypatch, *arguments: str) -> None:
    """The command in this process, without the seconds that imports take."""
    monkeypatch.setattr(sys, 'argv', ['mmscalenet', *arguments])
    monkeypatch.setattr(sys, 'path', list(sys.path))
    main()


def test_who_reads_the_list_may_stop():
    """As head does, once it has its lines."""
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run([sys.executable, '-m', 'mmscalenet'], stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert 'BrokenPipeError' not in ended.stderr


def test_every_script_is_a_command_or_says_why_not():
    scripts = {path for path in (ROOT / 'tools').rglob('*.*') if path.relative_to(ROOT).parts[1] not in ('dev', 'study')
               and (path.suffix == '.sh' or path.suffix == '.py' and "__name__ == '__main__'" in path.read_text())}
    found = {script_of(command) for command in COMMANDS if command != 'doctor'}
    assert len(found) == len(COMMANDS) - 1
    assert {path.name for path in scripts - found} == set(NO_COMMAND)
    assert found < scripts


def test_alone_it_lists_all(monkeypatch, capsys):
    run(monkeypatch)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith('usage: mmscalenet COMMAND')
    assert [line.split()[0] for line in lines[2:]] == list(COMMANDS)
    assert all(len(line.split()) > 4 for line in lines[2:])


@pytest.mark.parametrize('command', [name for name in COMMANDS if name != 'doctor' and script_of(name).suffix == '.py'])
def test_help(monkeypatch, capsys, command):
    with pytest.raises(SystemExit) as end:
        run(monkeypatch, command, '--help')
    assert not end.value.code
    assert f'usage: {script_of(command).name}' in capsys.readouterr().out


def test_help_of_the_doctor(monkeypatch, capsys):
    with pytest.raises(SystemExit) as end:
        run(monkeypatch, 'doctor', '--help')
    assert not end.value.code and capsys.readouterr().out.startswith('usage: mmscalenet doctor')
    with pytest.raises(SystemExit) as end:
        run(monkeypatch, 'doctor', 'all')
    assert end.value.code == 2


def test_unknown_command(monkeypatch, capsys):
    with pytest.raises(SystemExit) as end:
        run(monkeypatch, 'trian', 'config.py')
    error = capsys.readouterr().err.strip()
    assert end.value.code == 2 and '"trian"' in error and '\n' not in error


def test_a_script_takes_arguments_and_its_exit_code_is_that_of_the_command(tmp_path):
    env = os.environ | {'PYTHONPATH': str(ROOT)}
    command = [sys.executable, '-W', 'ignore', '-m', 'mmscalenet']
    options = ['--cfg-options', 'model.backbone.scale=7']
    done = subprocess.run([*command, 'print_config', 'scalenet_deit_in1k.py', *options], cwd=tmp_path, env=env,
                          capture_output=True, text=True)
    assert done.returncode == 0 and 'scale=7' in done.stdout, done.stderr
    done = subprocess.run([*command, 'dist_train', 'scalenet_deit_in1k.py'], cwd=tmp_path, env=env, capture_output=True,
                          text=True)
    assert done.returncode == 2 and 'usage: ' in done.stderr


@pytest.mark.parametrize('name', [
    'scalenet_deit_in1k.py', 'configs/scalenet_deit_in1k.py', 'deit/scalenet-deit-tiny-x2_100e_in1k.py',
    'configs/deit/scalenet-deit-tiny-x2_100e_in1k.py'])
def test_a_config_is_found_from_any_folder(monkeypatch, tmp_path, name):
    monkeypatch.chdir(tmp_path)
    relative = name.removeprefix('configs/')
    expected = Config.fromfile(ROOT / 'configs' / relative)
    assert read_config(name).to_dict() == expected.to_dict()
    (tmp_path / relative).parent.mkdir(exist_ok=True)
    (tmp_path / relative).write_text('mine = True')
    if not name.startswith('configs/'):
        assert read_config(name).mine, 'a file of the user comes first'


def test_a_config_that_is_nowhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r'Did you mean .*configs/scalenet_deit_in1k\.py'):
        read_config('scalenet_diet_in1k.py')


#: The original mmengine looks for an editable package where it is not.
inherits = pytest.mark.skipif(installed('mmengine')[0].distribution == 'mmengine',
                              reason='the original mmengine inherits only from a package installed as a wheel')


@inherits
@pytest.mark.parametrize('file, name', [
    ('deit/scalenet-deit-tiny-x2_100e_in1k.py', 'deit/scalenet-deit-tiny-x2_100e_in1k.py'),
    ('mask_rcnn/scalenet-swin-tiny-x2_fpn_fp16-1x_coco.py', 'mask_rcnn/scalenet-swin-tiny-x2_fpn_fp16-1x_coco.py'),
    ('mask_rcnn_scalenet_swin.py', 'mask_rcnn/../mask_rcnn_scalenet_swin.py'),
])
def test_inherited_from_the_package(tmp_path, file, name):
    """It is what inheriting from the file gives, and its classes are found."""
    path, own = tmp_path / 'own.py', 'model = dict(backbone=dict(scale=3, init_cfg=None))\n'
    path.write_text(f'_base_ = "mmscalenet::{name}"\n{own}')
    cfg = read_config(str(path))
    (tmp_path / 'same.py').write_text(f'_base_ = {str(ROOT / "configs" / file)!r}\n{own}')
    assert cfg.to_dict() == Config.fromfile(tmp_path / 'same.py').to_dict()
    init_default_scope(cfg.default_scope)
    backbone = MODELS.build(cfg.model).backbone
    assert isinstance(backbone, mmscalenet.Expanded)
    assert all(len(positions.layer_map) == 3 * len(set(positions.layer_map))
               for positions in position_lists(backbone).values())


@inherits
def test_inherited_to_be_grown():
    """As tools/grow.py takes it."""
    name = 'deit/deit-tiny_trained-on-100e_in1k.py'
    assert read_base(f'mmscalenet::{name}').to_dict() == Config.fromfile(ROOT / 'configs' / name).to_dict()


@inherits
def test_get_config():
    name = 'swin/scalenet-swin-tiny-x2_100e_in1k.py'
    assert get_config(f'mmscalenet::{name}').to_dict() == Config.fromfile(ROOT / 'configs' / name).to_dict()


@pytest.fixture
def bare_python(tmp_path) -> Path:
    """The Python of an environment that holds packaging and nothing else."""
    venv.create(tmp_path / 'venv', with_pip=False, symlinks=True)
    site = next((tmp_path / 'venv').glob('lib/python*/site-packages'))
    (site / 'packaging').symlink_to(Path(packaging.__file__).parent)
    (site / 'checkout.pth').write_text(str(ROOT))
    return tmp_path / 'venv/bin/python'


def run_bare(python: Path, *arguments: str) -> subprocess.CompletedProcess:
    env = {key: value for key, value in os.environ.items() if key != 'PYTHONPATH'}
    return subprocess.run([python, *arguments], capture_output=True, text=True, cwd=python.parent, env=env)


def test_without_torch_one_line_says_what_is_missing(bare_python):
    done = run_bare(bare_python, '-c', 'import mmscalenet')
    assert done.returncode == 1 and done.stderr.count('Traceback') == 1
    assert re.fullmatch(r'ImportError: .* not installed: torch, torchvision, numpy, mmengine, mmcv; '
                        r'`python -m mmscalenet\.doctor` says how to get it', done.stderr.strip().splitlines()[-1])


def test_without_torch_the_doctor_is_a_command(bare_python):
    done = run_bare(bare_python, '-m', 'mmscalenet', 'doctor')
    assert done.returncode == 1 and not done.stderr, done.stderr
    assert 'torch        PROBLEM: not installed' in done.stdout and 'cure: ' in done.stdout
