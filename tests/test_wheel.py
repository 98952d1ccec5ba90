"""What is built holds all that a user needs, and works where there is no checkout."""
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
#: For those who develop mmscalenet, in a checkout.
LEFT_OUT = ('tools/dev/', 'tools/study/')


@pytest.fixture(scope='module')
def tracked() -> list[str]:
    """The files of the checkout, without what git ignores; of a link only itself."""
    command = ['git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard']
    names = subprocess.check_output(command, cwd=ROOT, text=True).split('\0')
    return [name for name in names if name and (ROOT / name).exists()]


@pytest.fixture(scope='module')
def wheel(tracked, tmp_path_factory) -> Path:
    """Built from the sdist that a copy of the checkout gives, with nothing from an index."""
    folder = tmp_path_factory.mktemp('built')
    for name in tracked:
        (folder / 'copy' / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / 'copy' / name, follow_symlinks=False)
    run(sys.executable, '-c', f'from setuptools import build_meta; build_meta.build_sdist({str(folder)!r})',
        cwd=folder / 'copy')
    shutil.rmtree(folder / 'copy')
    sdist, = folder.glob('mmscalenet-*.tar.gz')
    run(sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps', '--no-build-isolation', '--no-index',
        '--disable-pip-version-check', '-w', folder, sdist, cwd=folder)
    return next(folder.glob('*.whl'))


def run(*command: object, cwd: Path, **env: str) -> str:
    """A command's output, with the package that is installed and not that of a checkout."""
    env = {key: value for key, value in os.environ.items() if key not in ('PYTHONPATH', 'PYTHON')} | env
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=env | dict(OMP_NUM_THREADS='1'), text=True, timeout=240,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, f'{command} ended with {done.returncode}:\n{done.stdout[-4000:]}'
    return done.stdout


def test_the_wheel_holds_what_the_checkout_does(wheel, tracked):
    """Byte for byte, and nothing else."""
    expected = {'mmscalenet/.mim/model-index.yml': 'model-index.yml'}
    for name in tracked:
        if name.startswith(('configs/', 'tools/')) and not name.startswith(LEFT_OUT):
            expected[f'mmscalenet/.mim/{name}'] = name
        elif name.startswith('mmscalenet/') and '/.mim/' not in name:
            expected[name] = name
    with zipfile.ZipFile(wheel) as file:
        found = {name for name in file.namelist() if '.dist-info/' not in name}
        assert found == set(expected)
        assert not [name for name in found if file.read(name) != (ROOT / expected[name]).read_bytes()]
        entry_points, = (name for name in file.namelist() if name.endswith('entry_points.txt'))
        assert 'mmscalenet = mmscalenet.__main__:main' in file.read(entry_points).decode()


@pytest.fixture(scope='module')
def command(wheel, tmp_path_factory) -> Path:
    """``mmscalenet`` of a fresh environment: the wheel, and of the one of the tests all but its mmscalenet."""
    folder = tmp_path_factory.mktemp('fresh')
    venv.create(folder, with_pip=False, symlinks=True)
    run(sys.executable, '-m', 'pip', '--python', folder / 'bin/python', 'install', '-q', '--no-deps', '--no-index',
        '--disable-pip-version-check', wheel, cwd=folder)
    site, = folder.glob('lib/python*/site-packages')
    # its folder comes after this one's, and what its own .pth files say, as of the editable mmscalenet, does not count
    (site / 'tests.pth').write_text(str(Path(torch.__file__).parents[1]))
    code = 'import mmscalenet; print(mmscalenet.__file__)'
    where = run(folder / 'bin/python', '-W', 'ignore', '-c', code, cwd=folder)
    assert where.strip() == str(site / 'mmscalenet/__init__.py')
    return folder / 'bin/mmscalenet'


@pytest.mark.slow
def test_configs_by_name_and_inherited(command, tmp_path):
    assert 'ScaleNetSwin' in run(command, 'print_config', 'mask_rcnn_scalenet_swin.py', cwd=tmp_path)
    (tmp_path / 'own.py').write_text("_base_ = 'mmscalenet::deit/scalenet-deit-tiny-x2_100e_in1k.py'\n"
                                     'model = dict(backbone=dict(scale=3))\n')
    table = run(command, 'get_flops', 'own.py', cwd=tmp_path)
    assert '| own | 3x224x224 | 6.823 | 3.921 |' in table  # as docs/results/cost.md has it for scale 3
    (tmp_path / 'detector.py').write_text(
        "_base_ = 'mmscalenet::mask_rcnn/../mask_rcnn_scalenet_swin.py'\nmodel = dict(backbone=dict(scale=1))\n")
    assert '| detector | 3x64x64 |' in run(command, 'get_flops', 'detector.py', '--shape', '64', cwd=tmp_path)


@pytest.mark.slow
def test_train_and_test(command, tmp_path, cls_fields, write_config):
    """Of a small DeiT: one process, two, and its checkpoint tested."""
    write_config(cls_fields)
    assert 'Epoch(val) [3]' in run(command, 'train', 'tiny.py', cwd=tmp_path)
    output = run(command, 'dist_train', 'tiny.py', 2, '--work-dir', 'two', cwd=tmp_path, CUDA_VISIBLE_DEVICES='-1')
    assert 'Epoch(val) [3]' in output
    assert 'accuracy/top1' in run(command, 'test', 'tiny.py', 'two/epoch_3.pth', cwd=tmp_path)
    assert (tmp_path / 'work_dirs/tiny/epoch_3.pth').exists()


@pytest.mark.slow
def test_doctor(command, tmp_path):
    assert 'everything needed works' in run(command, 'doctor', cwd=tmp_path)
