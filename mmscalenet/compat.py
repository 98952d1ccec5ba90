"""Which versions this package was tested with; imports none of them."""
import sys
import warnings
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import NamedTuple

from packaging.version import Version

PYTHON = ('3.10', '3.13')


class Tested(NamedTuple):
    """Versions from ``first`` up to, not including, ``end``."""
    first: str
    end: str


# Import name -> distributions it comes from: the maintained ones first, then the original OpenMMLab ones.
PACKAGES = {
    'torch': {'torch': Tested('2.1', '2.15')},
    'torchvision': {'torchvision': Tested('0.16', '0.30')},
    'numpy': {'numpy': Tested('1.23', '3')},
    'mmengine': {'onedl-mmengine': Tested('0.10.12', '0.11'), 'mmengine': Tested('0.10.4', '0.11')},
    'mmcv': {'onedl-mmcv': Tested('2.3.6', '2.4'), 'mmcv': Tested('2.1', '2.2')},
    'mmpretrain': {'onedl-mmpretrain': Tested('1.3.6', '1.4'), 'mmpretrain': Tested('1.2', '1.3')},
    'mmdet': {'onedl-mmdetection': Tested('3.5.1', '3.6'), 'mmdet': Tested('3.3', '3.4')},
    'mmseg': {'onedl-mmsegmentation': Tested('1.4.2', '1.5'), 'mmsegmentation': Tested('1.2.2', '1.3')},
}
#: Distribution -> the version from which on mmpretrain's models cannot be imported, and with them mmdet's and mmseg's.
BREAKING = {'transformers': '5'}
# A config of one task needs no other task's library.
OPTIONAL = ('mmpretrain', 'mmdet', 'mmseg')


class Installed(NamedTuple):
    distribution: str
    version: str
    tested: Tested

    @property
    def is_tested(self) -> bool:
        return Version(self.tested.first) <= Version(Version(self.version).base_version) < Version(self.tested.end)


def installed(package: str) -> list[Installed]:
    """The installed distributions that ``package`` may come from; more than one overwrite each other's files."""
    found = []
    for distribution, tested in PACKAGES[package].items():
        try:
            found.append(Installed(distribution, version(distribution), tested))
        except PackageNotFoundError:
            pass
    return found


def breaking() -> list[str]:
    """Of what is installed, what keeps mmpretrain's models from being imported: ``transformers 5.0``."""
    found = []
    for distribution, first in BREAKING.items() if installed('mmpretrain') else ():
        try:
            there = version(distribution)
        except PackageNotFoundError:
            continue
        if Version(Version(there).base_version) >= Version(first):
            found.append(f'{distribution} {there}')
    return found


def missing() -> list[str]:
    """The packages without which nothing runs here and that are not to be found."""
    return [package for package in PACKAGES if package not in OPTIONAL and find_spec(package) is None]


def untested() -> list[str]:
    """One line for each thing outside the tested versions."""
    lines = []
    if not Version(PYTHON[0]) <= Version('.'.join(map(str, sys.version_info[:2]))) < Version(PYTHON[1]):
        lines.append(f'Python {sys.version.split()[0]} (tested: from {PYTHON[0]}, below {PYTHON[1]})')
    for package in PACKAGES:
        lines += [f'{found.distribution} {found.version} (tested: from {found.tested.first}, below {found.tested.end})'
                  for found in installed(package) if not found.is_tested]
    return lines + [f"{name} (mmpretrain's models cannot be imported with it)" for name in breaking()]


def warn_untested() -> None:
    """Warn once if anything is outside the tested versions."""
    if lines := untested():
        warnings.warn(f'mmscalenet was not tested with {"; ".join(lines)}. If something fails, run: '
                      'python -m mmscalenet.doctor', stacklevel=2)
