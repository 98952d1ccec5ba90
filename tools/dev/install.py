"""Make the virtual environment with everything the project needs; called by the Makefile.

Every stage can be repeated. The stamp that the other make targets ask for is written last and holds a digest of all
requirement files: an interrupted install is taken up again, a changed one is brought up to date.
"""
import argparse
import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / 'requirements'
CACHE = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'mmscalenet' / 'wheels'
STAMP = 'installed.sha256'  # in the environment
PYTHONS = {'onedl': ((3, 10), (3, 12)), 'torch2.11': ((3, 10), (3, 12)), 'openmmlab': ((3, 10), (3, 10))}
# What mmcv can be compiled for. Its setup asks for a GPU alone, and fails where there is one without nvcc.
PROBE = '''
import os, torch
device = 'cpu'
if torch.cuda.is_available():
    from torch.utils.cpp_extension import CUDA_HOME
    device = 'cuda' if os.path.exists(f'{CUDA_HOME}/bin/nvcc') else 'no-nvcc'
print(torch.__version__, device)
'''
CHECK = 'import mmcv.ops, mmdet, mmseg, mmpretrain, mmscalenet'


def stop(message: str) -> None:
    sys.exit(f'install: {message}')


def say(message: str) -> None:
    print(f'install: {message}', flush=True)


def run(*command: object) -> None:
    command = [str(part) for part in command]
    if subprocess.run(command).returncode:
        stop(f'this step failed: {" ".join(command)}\n'
             'Its own message stands above. Mend that and repeat the command; finished steps are not redone.')


def requirements(stack: str, name: str) -> Path:
    """The stack's own file of this name; what it does not say is as in onedl."""
    own = REQUIREMENTS / stack / f'{name}.txt'
    return own if own.exists() else REQUIREMENTS / 'onedl' / f'{name}.txt'


def digest(stack: str) -> str:
    """Digest of everything that decides what the environment holds."""
    sha = hashlib.sha256(f'{sys.version}{ROOT}'.encode())
    for path in (*(requirements(stack, name) for name in ('build', 'mmcv', 'stack', 'torch')),
                 REQUIREMENTS / 'dev.txt', REQUIREMENTS / 'demo.txt', ROOT / 'setup.py'):
        sha.update(path.read_bytes())
    return sha.hexdigest()


def as_cpp20(python: Path, requirement: str, folder: Path) -> Path:
    """mmcv's source, in a folder of ``folder``, with C++20 in its setup: from 2.13 on torch's headers refuse C++17."""
    run(python, '-m', 'pip', 'download', '-q', '--no-build-isolation', '--no-deps', '--no-cache-dir', '--no-binary',
        ':all:', '-d', folder, requirement)
    archive = next(folder.glob('*.tar.gz'))
    shutil.unpack_archive(archive, folder)
    source = folder / archive.name.removesuffix('.tar.gz')
    setup = source / 'setup.py'
    setup.write_text(setup.read_text().replace('-std=c++17', '-std=c++20'))
    return source


def build_mmcv(python: Path, requirement: str, folder: Path, device: str, cpp20: bool) -> Path:
    """Compile mmcv with its ops; the wheel gets its final name only when it is whole."""
    if not (shutil.which(os.environ.get('CXX', 'c++')) or shutil.which('g++')):
        stop('no C++ compiler found, and mmcv has to be compiled. Install one (Debian and Ubuntu: apt-get install '
             'g++) and repeat the command.')
    say(f'compiling {requirement} for {folder.name}: 10 to 30 minutes on 2 cores, once per machine')
    folder.mkdir(parents=True, exist_ok=True)
    env = dict(os.environ, MMCV_WITH_OPS='1', PATH=f'{python.parent}{os.pathsep}{os.environ["PATH"]}')
    env.setdefault('MAX_JOBS', str(os.cpu_count()))
    if device == 'cpu':
        env['CUDA_VISIBLE_DEVICES'] = ''  # or its setup would compile for a GPU that it sees
    # --no-cache-dir: pip's own cache ignores the torch version a wheel was built against.
    command = [str(python), '-m', 'pip', 'wheel', '-v', '--no-build-isolation', '--no-deps', '--no-cache-dir',
               '--no-binary', requirement.split('==')[0]]
    log_path = folder / 'build.log'
    with tempfile.TemporaryDirectory(dir=folder) as tmp, open(log_path, 'w') as log:
        source = as_cpp20(python, requirement, Path(tmp)) if cpp20 else requirement
        process = subprocess.Popen([*command, source, '-w', tmp], env=env, text=True, errors='replace',
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        start = time.time()
        for line in process.stdout:
            log.write(line)
            step = re.search(r'\[(\d+)/(\d+)\]', line)
            if step and int(step[1]) % 5 == 0:
                say(f'mmcv: file {step[1]} of {step[2]} compiled, {time.time() - start:.0f} s')
        if process.wait():
            stop(f'mmcv did not compile; the compiler\'s messages are in {log_path}')
        wheel = next(Path(tmp).glob('*.whl'))
        return Path(shutil.move(wheel, folder / wheel.name))


def mmcv_wheel(python: Path, stack: str) -> Path:
    """The compiled wheel out of the user's cache, keyed by torch version, Python tag and device."""
    torch_version, device = subprocess.check_output([python, '-c', PROBE], text=True).split()
    if device == 'no-nvcc':
        device = 'cpu'
        say("there is a GPU but no nvcc: mmcv's ops, which Mask R-CNN needs, will run on the CPU only. To have them on "
            f'the GPU, install the CUDA toolkit with nvcc, remove {python.parents[1] / STAMP} and repeat the command')
    requirement = requirements(stack, 'mmcv').read_text().split()[-1]
    tag = f'cp{sys.version_info[0]}{sys.version_info[1]}-{platform.machine()}'
    folder = CACHE / f'{requirement.replace("==", "-")}-torch{torch_version}-{device}-{tag}'
    wheels = sorted(folder.glob('*.whl'))
    if wheels:
        say(f'taking the compiled mmcv from {wheels[0]}')
        return wheels[0]
    cpp20 = tuple(map(int, torch_version.split('.')[:2])) >= (2, 13)
    return build_mmcv(python, requirement, folder, device, cpp20)


def install(venv: Path, stack: str) -> None:
    python = venv / 'bin' / 'python'
    build, torch = ('-r', requirements(stack, 'build')), ('-r', requirements(stack, 'torch'))
    pip = (python, '-m', 'pip', 'install', '-q', '--disable-pip-version-check')
    start = time.time()
    if subprocess.run([python, '-m', 'pip', '--version'], capture_output=True).returncode if python.exists() else True:
        say(f'creating {venv}')
        run(sys.executable, '-m', 'venv', '--clear', venv)
    say('torch and what compiling mmcv needs (several GB)')
    run(*pip, *build, *torch)
    wheel = mmcv_wheel(python, stack)
    say('mmengine, mmdet, mmseg, mmpretrain and the test tools')
    # of its own, as pip keeps an installed mmcv of the same version, which may be that of another torch or device
    run(*pip, '--force-reinstall', '--no-deps', wheel)
    # setuptools stays pinned for the source packages among them
    run(*pip, '--no-build-isolation', *build, *torch, wheel, '-r', requirements(stack, 'stack'),
        '-r', REQUIREMENTS / 'dev.txt')
    run(*pip, '--no-build-isolation', '--no-deps', '-e', ROOT)
    say('importing all of it once')
    run(python, '-W', 'ignore', '-c', CHECK)
    say(f'done in {time.time() - start:.0f} s')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--venv', type=Path, required=True)
    parser.add_argument('--stack', choices=sorted(PYTHONS), default='onedl')
    args = parser.parse_args()

    low, high = PYTHONS[args.stack]
    if not low <= sys.version_info[:2] <= high:
        stop(f'STACK={args.stack} needs Python {low[0]}.{low[1]} to {high[0]}.{high[1]}, and this is '
             f'{platform.python_version()} ({sys.executable}). Name another one: make install '
             f'STACK={args.stack} PYTHON=/path/to/python{high[0]}.{high[1]}')
    args.venv.parent.mkdir(parents=True, exist_ok=True)
    with open(args.venv.with_name(f'{args.venv.name}.lock'), 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two make commands at once: the second waits
        stamp = args.venv / STAMP
        if stamp.exists() and stamp.read_text() == digest(args.stack):
            return
        stamp.unlink(missing_ok=True)
        install(args.venv, args.stack)
        stamp.write_text(digest(args.stack))


if __name__ == '__main__':
    main()
