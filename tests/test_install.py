"""tools/dev/install.py when it is stopped half-way, and which compiled mmcv it takes; no index, no compiler.

The real script runs in a folder of its own, or with a stub in the place of the environment's Python.
"""
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def command(tmp_path) -> list:
    """The installer of a copy of what it reads, so that its digest is under our control."""
    for name in ('tools/dev/install.py', 'setup.py'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / 'requirements', tmp_path / 'requirements')
    python = Path(sys.base_prefix) / 'bin' / f'python{sys.version_info[0]}.{sys.version_info[1]}'
    return [python, tmp_path / 'tools/dev/install.py', '--venv', tmp_path / 'venv']


def run_install(command: list) -> subprocess.CompletedProcess:
    """Gets as far as the first package, as nothing can be downloaded."""
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {'PIP_NO_INDEX': '1'})
    assert done.returncode and 'this step failed' in done.stderr and 'repeat the command' in done.stderr
    return done


def test_an_interrupted_environment_is_made_again(command, tmp_path):
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    while not (tmp_path / 'venv/bin/python').exists():  # made before pip is put in
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / 'venv/installed.sha256').exists()
    assert 'creating' in run_install(command).stdout  # which also shows that the lock went with the process
    assert 'creating' not in run_install(command).stdout  # what is whole is kept


def test_an_interrupted_update_leaves_no_stamp(command, tmp_path):
    stamp = tmp_path / 'venv/installed.sha256'
    stamp.parent.mkdir()
    stamp.write_text('the digest of other requirements')
    run_install(command)
    assert not stamp.exists()


def test_a_repeated_install_does_nothing(command, tmp_path):
    """It starts nothing of the environment, here a Python that fails."""
    digest = 'import sys; sys.path.insert(0, "tools/dev"); import install; print(install.digest("onedl"))'
    stamp, python = tmp_path / 'venv/installed.sha256', tmp_path / 'venv/bin/python'
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\nexit 1\n')
    python.chmod(0o755)
    stamp.write_text(subprocess.check_output([command[0], '-c', digest], text=True, cwd=tmp_path).strip())
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, '', '')
    (tmp_path / 'requirements/dev.txt').write_text('another\n')
    assert 'creating' in run_install(command).stdout


@pytest.fixture
def install(tmp_path, monkeypatch) -> ModuleType:
    """The script as a module, with a cache of its own."""
    spec = importlib.util.spec_from_file_location('install', ROOT / 'tools/dev/install.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, 'CACHE', tmp_path / 'mmscalenet/wheels')
    monkeypatch.setenv('CXX', 'true')  # found, whether or not there is a compiler
    return module


@pytest.fixture
def environment(tmp_path):
    """Writes the stub of an environment's Python: it probes a torch of ours, and "compiles" by a line of shell."""

    def write(torch: str = '2.11.0+cu130', gpu: bool = False, nvcc: bool = False,
              build: str = 'echo "devices: ${CUDA_VISIBLE_DEVICES-all}" > "$folder/mmcv-1-cp3.whl"') -> Path:
        python, cuda = tmp_path / 'venv/bin/python', tmp_path / 'cuda'
        for file, text in {
            tmp_path / 'modules/torch/__init__.py':
            f'__version__ = {torch!r}\nclass cuda:\n    is_available = staticmethod(lambda: {gpu})\n',
            tmp_path / 'modules/torch/utils/cpp_extension.py': f'CUDA_HOME = {str(cuda) if nvcc else None!r}\n',
            cuda / 'bin/nvcc': '',
            python: f'''#!/bin/sh
echo "$@" >> {tmp_path}/calls
for folder; do :; done  # the last argument
case "$*" in
*torch.__version__*) PYTHONDONTWRITEBYTECODE=1 PYTHONPATH={tmp_path}/modules exec {sys.executable} "$@" ;;
*"pip wheel"*) echo "[5/9]"; {build} ;;
*"pip download"*) while [ "$1" != -d ]; do shift; done
    mkdir -p "$2/mmcv-1" && echo "args = ['-O3', '-std=c++17']" > "$2/mmcv-1/setup.py"
    tar -czf "$2/mmcv-1.tar.gz" -C "$2" mmcv-1 && rm -r "$2/mmcv-1" ;;
esac
''',
        }.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        python.chmod(0o755)
        return python

    return write


def test_the_wheel_is_kept_for_this_torch_device_and_python(install, environment, monkeypatch):
    first = install.mmcv_wheel(environment(), 'onedl')
    python = f'cp{sys.version_info[0]}{sys.version_info[1]}'
    assert first.parent.parent == install.CACHE and f'-torch2.11.0+cu130-cpu-{python}-' in first.parent.name
    wheels = {first, install.mmcv_wheel(environment(torch='2.12.0'), 'onedl'),
              install.mmcv_wheel(environment(gpu=True, nvcc=True), 'onedl'),
              install.mmcv_wheel(environment(), 'openmmlab')}
    monkeypatch.setattr(install, 'sys', SimpleNamespace(version_info=(3, 99)))
    wheels.add(install.mmcv_wheel(environment(), 'onedl'))
    assert len(wheels) == 5 and all(wheel.exists() for wheel in wheels)


def test_torch_from_2_13_on_gets_an_mmcv_of_cpp20(install, environment):
    """Its headers refuse C++17, which mmcv's setup asks for."""
    build = 'cat "$folder"/*/setup.py > "$folder/mmcv-1-cp3.whl" || true'
    wheels = {torch: install.mmcv_wheel(environment(torch=torch, build=build), 'onedl').read_text()
              for torch in ('2.9.1', '2.12.1', '2.13.0', '2.14.1+cu130', '3.0.0')}
    assert wheels.pop('2.9.1') == wheels.pop('2.12.1') == ''  # the index's own
    assert set(wheels.values()) == {"args = ['-O3', '-std=c++20']\n"}


def test_a_stack_takes_from_onedl_what_it_does_not_say(install):
    assert install.requirements('torch2.11', 'torch').parent.name == 'torch2.11'
    assert install.requirements('torch2.11', 'mmcv') == install.requirements('onedl', 'mmcv')
    assert len({install.digest(stack) for stack in install.PYTHONS}) == 3


def test_a_finished_wheel_is_taken(install, environment, capsys):
    wheel = install.mmcv_wheel(environment(), 'onedl')
    assert 'compiling' in capsys.readouterr().out
    assert install.mmcv_wheel(environment(build='exit 1'), 'onedl') == wheel
    assert 'compiling' not in capsys.readouterr().out


def test_a_gpu_without_nvcc_gets_a_wheel_for_the_cpu(install, environment, capsys):
    with_nvcc = install.mmcv_wheel(environment(gpu=True, nvcc=True), 'onedl')
    assert '-cuda-' in with_nvcc.parent.name and with_nvcc.read_text() == 'devices: all\n'
    assert 'nvcc' not in capsys.readouterr().out
    for _ in 'built', 'taken':
        wheel = install.mmcv_wheel(environment(gpu=True), 'onedl')
        assert '-cpu-' in wheel.parent.name and wheel.read_text() == 'devices: \n'
        line = next(line for line in capsys.readouterr().out.splitlines() if 'no nvcc' in line)
        assert 'on the CPU only' in line and 'venv/installed.sha256 and repeat' in line


def test_a_failed_build_leaves_no_wheel(install, environment):
    failing = environment(build='echo half > "$folder/mmcv-1-cp3.whl"; echo "the compiler says why"; exit 1')
    with pytest.raises(SystemExit, match='build.log'):
        install.mmcv_wheel(failing, 'onedl')
    assert not list(install.CACHE.rglob('*.whl'))
    log, = install.CACHE.rglob('build.log')
    assert 'the compiler says why' in log.read_text()
    assert install.mmcv_wheel(environment(), 'onedl').read_text().startswith('devices')


def test_a_killed_build_leaves_no_wheel(install, environment, tmp_path):
    python = environment(build='echo half > "$folder/mmcv-1-cp3.whl"; sleep 60')
    code = f'import pathlib, install; install.mmcv_wheel(pathlib.Path({str(python)!r}), "onedl")'
    process = subprocess.Popen([sys.executable, '-c', code], cwd=ROOT / 'tools/dev', stdout=subprocess.DEVNULL,
                               env=os.environ | {'XDG_CACHE_HOME': str(tmp_path), 'PYTHONDONTWRITEBYTECODE': '1'},
                               start_new_session=True)
    while not any(wheel.read_text() for wheel in install.CACHE.rglob('*.whl')):
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    half, = install.CACHE.rglob('*.whl')  # left where nothing looks for it
    wheel = install.mmcv_wheel(environment(), 'onedl')
    assert wheel != half and wheel.read_text().startswith('devices')


def test_the_wheel_replaces_an_installed_one(install, environment, tmp_path):
    """pip would keep an mmcv of the same version that was built for the torch before."""
    install.install(environment().parents[1], 'onedl')
    steps = (tmp_path / 'calls').read_text().splitlines()
    wheel, = install.CACHE.rglob('*.whl')
    forced, = (step for step in steps if '--force-reinstall' in step)
    assert forced.endswith(f' --force-reinstall --no-deps {wheel}')
    after = steps[steps.index(forced) + 1:]
    assert any('stack.txt' in step for step in after)  # which brings what mmcv itself needs


def test_clean_spares_data_and_checkpoints(tmp_path):
    shutil.copy(ROOT / 'Makefile', tmp_path)
    for name in ('data/coco', 'work_dirs/run', '.venv/bin', 'mmscalenet/__pycache__'):
        (tmp_path / name).mkdir(parents=True)
    subprocess.run(['make', 'clean'], cwd=tmp_path, check=True, capture_output=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['Makefile', 'data', 'mmscalenet', 'work_dirs']
    assert (tmp_path / 'data/coco').exists() and (tmp_path / 'work_dirs/run').exists()
