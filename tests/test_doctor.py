"""python -m mmscalenet.doctor, in whole and in broken environments."""
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from mmscalenet import compat, doctor


def run_doctor(path: Path) -> subprocess.CompletedProcess:
    """Run it with ``path`` before everything else that can be imported."""
    env = os.environ | {'PYTHONPATH': f'{path}{os.pathsep}{Path(__file__).parents[1]}', 'OMP_NUM_THREADS': '1'}
    command = [sys.executable, '-m', 'mmscalenet.doctor']
    return subprocess.run(command, cwd=path, env=env, capture_output=True, text=True)


@pytest.mark.slow  # a dozen processes that import all
def test_whole_environment(tmp_path):
    result = run_doctor(tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    for package in compat.PACKAGES:
        assert any(line.startswith(package) for line in result.stdout.splitlines())
    assert 'ScaleNetDeiT' in result.stdout and 'models       of mmpretrain, mmdet, mmseg can be' in result.stdout
    assert 'PROBLEM' not in result.stdout


def test_torch_cannot_be_imported(tmp_path):
    (tmp_path / 'torch').mkdir()
    (tmp_path / 'torch/__init__.py').write_text("raise ImportError('libcudart.so.13: no such file')")
    result = run_doctor(tmp_path)
    assert result.returncode == 1
    assert 'libcudart.so.13' in result.stdout
    assert '-m pip install --force-reinstall torch==' in result.stdout
    assert result.stdout.count('PROBLEM') == 1, 'what follows from it is no problem of its own'
    assert 'Traceback' not in result.stdout + result.stderr


@pytest.fixture
def first_found(tmp_path, monkeypatch) -> Path:
    """A folder whose modules the checks find first."""
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_ops_were_not_built(first_found, capsys):
    """What a mmcv without its ops says."""
    (first_found / 'mmcv').mkdir()
    (first_found / 'mmcv/__init__.py').write_text('')
    sick = doctor.Doctor()
    assert not sick.check('mmcv.ops', doctor.OPS, doctor.install_command('mmcv'))
    output = capsys.readouterr().out
    assert sick.problems == 1 and "No module named 'mmcv.ops'" in output and 'MMCV_WITH_OPS=1' in output


@pytest.mark.skipif(not compat.installed('mmcv') or compat.installed('mmcv')[0].distribution != 'onedl-mmcv',
                    reason='the original mmcv is for torch of C++17 alone')
def test_ops_for_a_torch_of_cpp20(first_found):
    """Its headers refuse C++17, for which mmcv's setup asks."""
    distribution(first_found, 'torch', '2.12.1')
    assert 'c++20' not in doctor.install_command('mmcv')
    (first_found / 'torch-2.12.1.dist-info').rename(first_found / 'torch-2.13.0.dist-info')
    metadata = first_found / 'torch-2.13.0.dist-info/METADATA'
    metadata.write_text(metadata.read_text().replace('2.12.1', '2.13.0+cu130'))
    command = doctor.install_command('mmcv')
    assert 's/std=c++17/std=c++20/ onedl_mmcv-2.3.6/setup.py' in command and command.endswith(' ./onedl_mmcv-2.3.6')


def test_a_dependency_is_missing(first_found, capsys):
    (first_found / 'mmseg.py').write_text('import ftfy_of_nowhere')
    assert not doctor.Doctor().check_package('mmseg')
    assert f'cure: {doctor.PIP} install ftfy_of_nowhere' in capsys.readouterr().out


def distribution(folder: Path, name: str, version: str) -> None:
    info = folder / f'{name.replace("-", "_")}-{version}.dist-info'
    info.mkdir()
    (info / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n')


@pytest.mark.parametrize('version', ['5.0.0rc1', '5.24.0'])
def test_a_transformers_that_breaks_mmpretrain(first_found, capsys, version):
    """From 5 on there is not all that mmpretrain's models are made of."""
    distribution(first_found, 'transformers', version)
    (first_found / 'transformers').mkdir()
    (first_found / 'transformers/__init__.py').write_text('PreTrainedModel = None\n')
    (first_found / 'mmpretrain').mkdir()
    (first_found / 'mmpretrain/__init__.py').write_text('')
    (first_found / 'mmpretrain/models.py').write_text('class Text(__import__("transformers").PreTrainedModel): pass')
    doctor.Doctor().check_models(['mmpretrain'])
    output = capsys.readouterr().out
    assert f'PROBLEM: TypeError: NoneType takes no arguments, by transformers {version}' in output
    assert f'cure: {doctor.PIP} install "transformers<5"' in output
    assert compat.untested() == [f"transformers {version} (mmpretrain's models cannot be imported with it)"]


def test_models_that_need_something_else(first_found, capsys):
    (first_found / 'mmseg').mkdir()
    (first_found / 'mmseg/__init__.py').write_text('')
    (first_found / 'mmseg/models.py').write_text('import ftfy_of_nowhere')
    doctor.Doctor().check_models(['mmseg'])
    assert f'cure: {doctor.PIP} install ftfy_of_nowhere' in capsys.readouterr().out


def test_both_makers_at_once(first_found, capsys):
    distribution(first_found, 'onedl-mmcv', '2.3.6')
    distribution(first_found, 'mmcv', '2.1.0')
    assert not doctor.Doctor().check_package('mmcv')
    assert 'uninstall -y onedl-mmcv mmcv' in capsys.readouterr().out


def test_untested_version_is_a_warning(first_found):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        compat.warn_untested()  # the environment of the tests is a tested one
    distribution(first_found, 'torch', '9.9.0+cu999')
    with pytest.warns(UserWarning, match=r'torch 9\.9\.0\+cu999 \(tested: from 2\.1, below 2\.15\).*doctor'):
        compat.warn_untested()
