"""Say what is installed, whether it works, and which command cures what does not: ``mmscalenet doctor``.

Imports nothing heavy itself: every check runs in a process of its own, so that one that crashes is a finding.
"""
import argparse
import platform
import re
import subprocess
import sys

from packaging.version import Version

from mmscalenet.compat import BREAKING, OPTIONAL, PACKAGES, PYTHON, breaking, installed, untested

#: The torch from which on mmcv's ops compile as C++20 alone, for which its setup does not ask.
CPP20 = Version('2.13')

OPS = """
import torch
from mmcv.ops import RoIAlign, nms
boxes = torch.tensor([[0., 0., 10., 10.], [1., 1., 10., 10.], [20., 20., 30., 30.]])
assert nms(boxes, torch.tensor([.9, .8, .7]), 0.5)[1].tolist() == [0, 2]
assert RoIAlign(2)(torch.ones(1, 1, 8, 8), torch.tensor([[0., 0., 0., 4., 4.]])).eq(1).all()
if torch.cuda.is_available():
    nms(boxes.cuda(), torch.tensor([.9, .8, .7]).cuda(), 0.5)
print('work')
"""
DEVICES = """
import os, torch
names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
print(', '.join(names) or f'no GPU; CPU with {os.cpu_count()} cores, {torch.get_num_threads()} threads used')
"""
MMSCALENET = """
import mmscalenet
from mmengine.registry import MODELS
print(mmscalenet.__version__, 'with', MODELS.get('mmscalenet.ScaleNetDeiT').__name__, 'and',
      MODELS.get('mmscalenet.ScaleNetSwin').__name__)
"""
PIP = f'{sys.executable} -m pip'
MISSING = re.compile(r"No module named '(\w+)")


def install_command(package: str) -> str:
    """The command that installs ``package``, from the same makers as the mmengine that is there."""
    original = any(found.distribution == 'mmengine' for found in installed('mmengine'))
    distribution, tested = list(PACKAGES[package].items())[-1 if original else 0]
    if package == 'mmcv':  # its ops have to be compiled against the torch that is there
        setuptools = 'setuptools<70' if original else 'setuptools>=80,<82'
        needed = f'{PIP} install "{setuptools}" wheel ninja psutil packaging'
        install = f'MMCV_WITH_OPS=1 {PIP} install --no-build-isolation --no-cache-dir --no-deps --force-reinstall'
        pinned = f'{distribution}=={tested.first}'
        if any(Version(torch.version) >= CPP20 for torch in installed('torch')):
            source = pinned.replace('-', '_').replace('==', '-')
            return (f'{needed}; {PIP} download --no-build-isolation --no-deps --no-binary :all: {pinned}; '
                    f'tar -xzf {source}.tar.gz; sed -i s/std=c++17/std=c++20/ {source}/setup.py; {install} ./{source}')
        return f'{needed}; {install} --no-binary {distribution} {pinned}'
    return f'{PIP} install "{distribution}>={tested.first},<{tested.end}"'


def command_of_missing(module: str) -> str:
    return install_command(module) if module in PACKAGES else f'{PIP} install {module}'


def run(code: str) -> tuple[bool, str]:
    """Whether ``code`` runs in a fresh interpreter, and the last line that it prints."""
    result = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True)
    output = (result.stdout if result.returncode == 0 else result.stderr).strip().splitlines()
    return result.returncode == 0, output[-1] if output else f'exit code {result.returncode}'


class Doctor:
    """Prints the findings and counts the problems.

    Args:
        all_work (bool): Whether all packages and models are known to be importable, so that none is tried on its own.
            Defaults to False.
    """

    def __init__(self, all_work: bool = False) -> None:
        self.all_work = all_work
        self.problems = 0
        self.reasons = set()

    def say(self, name: str, text: str) -> None:
        print(f'{name:<12} {text}', flush=True)

    def problem(self, name: str, text: str, cure: str) -> None:
        self.problems += 1
        self.say(name, f'PROBLEM: {text}')
        self.say('', f'cure: {cure}')

    def check(self, name: str, code: str, cure: str) -> bool:
        works, output = run(code)
        if works:
            self.say(name, output)
        else:
            self.problem(name, output, cure)
        return works

    def check_package(self, package: str) -> bool:
        """Whether ``package`` is there, once, and can be imported."""
        found = installed(package)
        names = ' and '.join(f'{one.distribution} {one.version}' for one in found)
        if len(found) > 1:
            both = ' '.join(one.distribution for one in found)
            self.problem(package, f'{names} overwrite each other',
                         f'{PIP} uninstall -y {both}; {install_command(package)}')
            return False
        works, output = (True, '') if self.all_work else run(f'import {package}')
        missing = MISSING.search(output)
        if works:
            self.say(package, names or 'there, but not installed by pip')
        elif not found and package in OPTIONAL:
            self.say(package, f'not installed; only its own configs need it: {install_command(package)}')
        elif not found:
            self.problem(package, 'not installed', install_command(package))
        elif output in self.reasons:
            self.say(package, f'{names} cannot be imported for the same reason')
        else:
            if not missing or missing[1] == package:
                cure = (install_command(package) if package == 'mmcv' else
                        f'{PIP} install --force-reinstall {found[0].distribution}=={found[0].version}')
            else:
                cure = command_of_missing(missing[1])
            self.problem(package, f'{names} cannot be imported: {output}', cure)
        self.reasons.add(output)
        return works

    def check_models(self, libraries: list[str]) -> None:
        """Whether the models of ``libraries`` can be imported, which needs more than the libraries themselves do."""
        works, output = (True, '') if self.all_work else run(
            '; '.join(f'import {library}.models' for library in libraries))
        missing = MISSING.search(output)
        if works:
            self.say('models', f'of {", ".join(libraries)} can be imported')
        elif breaking():
            barred = ' '.join(f'"{name}<{first}"' for name, first in BREAKING.items())
            self.problem('models', f'{output}, by {" and ".join(breaking())}', f'{PIP} install {barred}')
        else:
            self.problem('models', output, command_of_missing(missing[1]) if missing else 'make install, or a new '
                         'environment')


def main() -> int:
    """Print the findings and return the exit code: 1 if something needed is broken."""
    argparse.ArgumentParser(prog='mmscalenet doctor', description=__doc__).parse_args()
    models = [f'{library}.models' for library in OPTIONAL]
    doctor = Doctor(all_work=run(f'import {", ".join([*PACKAGES, *models])}')[0])
    doctor.say('python', f'{platform.python_version()} at {sys.executable}')
    if sys.version_info[:2] < tuple(map(int, PYTHON[0].split('.'))):
        doctor.problem('python', f'older than {PYTHON[0]}', 'make install PYTHON=/path/to/a/newer/python')
    works = {package: doctor.check_package(package) for package in PACKAGES}
    if works['torch']:
        doctor.check('devices', DEVICES, install_command('torch'))
    if works['torch'] and works['mmcv'] and doctor.check('mmcv.ops', OPS, install_command('mmcv')) and (
            libraries := [library for library in OPTIONAL if works[library]]):
        doctor.check_models(libraries)
    if works['torch'] and works['mmengine'] and works['mmcv']:
        doctor.check('mmscalenet', MMSCALENET, 'make install, or pip install of its folder or wheel')
    for line in untested():
        doctor.say('warning', f'not tested with {line}')
    print('everything needed works' if not doctor.problems else f'{doctor.problems} problem(s), see above')
    return int(doctor.problems > 0)


if __name__ == '__main__':
    sys.exit(main())
