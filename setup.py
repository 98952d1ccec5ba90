from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def version() -> str:
    scope = {}
    exec((ROOT / 'mmscalenet' / 'version.py').read_text(), scope)
    return scope['__version__']


def requirements(*names: str) -> list:
    """What these files of requirements/ ask for, comments dropped."""
    lines = []
    for name in names:
        lines += (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines()
    return [line for line in lines if line and not line.startswith('#')]


def stack(name: str) -> list:
    """Pinned requirements of one tested stack."""
    return requirements(f'{name}/torch', f'{name}/mmcv', f'{name}/stack')


setup(
    name='mmscalenet',
    version=version(),
    description='ScaleNet for OpenMMLab: grow pretrained vision transformers by weight sharing (arXiv 2510.18431)',
    long_description=(ROOT / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    packages=find_packages(include=['mmscalenet', 'mmscalenet.*']),
    # mmscalenet/.mim holds links to configs, tools and model-index.yml; what is built holds the files, where mim and
    # mmengine ('mmscalenet::...') look for them
    package_data={
        'mmscalenet': ['.mim/model-index.yml', '.mim/configs/**/*.py', '.mim/configs/*/metafile.yml',
                       '.mim/tools/**/*.py', '.mim/tools/*.sh']
    },
    exclude_package_data={'mmscalenet': ['.mim/tools/dev/*', '.mim/tools/study/*']},
    entry_points={'console_scripts': ['mmscalenet = mmscalenet.__main__:main']},
    python_requires='>=3.10',
    # Light on purpose: torch and the OpenMMLab packages are what the user already has, under either name.
    install_requires=['packaging'],
    extras_require={'onedl': stack('onedl'), 'openmmlab': stack('openmmlab'), 'demo': requirements('demo')},
)
