"""Every command and every config on the pages of docs/ runs as it stands, at reduced size."""
import re
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from pages import DOCS, Block, Workplace, blocks

PAGES = [page for page in sorted(DOCS.glob('*.md')) if blocks(page)]
LANGUAGES = {'bash', 'python'}
#: Pages with more than three trainings.
LONG = ('depth', 'mask_rcnn_coco', 'own_config', 'own_data', 'upernet_ade20k')
#: What a command is recognised by -> what it prints when it has done what it is there for.
DONE = {
    r'(train|test)\.(py|sh)\b(?!.*--no-validate).*(mask_rcnn|fruit)': 'coco/bbox_mAP: ',
    r'(train|test)\.(py|sh)\b(?!.*--no-validate).*upernet': 'mIoU: ',
    r'--resume\n': 'resume: going on from',
    r'--resume work_dirs/.*_8\.pth': 'resumed epoch: 8,',
    r'train\.py configs/fruit\.py': 'size mismatch for roi_head.bbox_head.fc_cls',
    r'\b(test\.py|dist_test\.sh|slurm_test\.sh)': 'Load checkpoint from',
    r'train\.(py|sh) .*(mask_rcnn|upernet)_scalenet': ' tensors loaded',
    r'export_onnx\.py': 'ONNX Runtime against PyTorch: greatest difference',
    r'to_plain\.py': 'greatest difference from the grown model',
    r'train\.(py|sh) .*_deit\.py': '12 blocks -> 24 positions',
}
#: Script -> how many files of which kind it leaves at the end of a page, where each split has two images.
WRITTEN = {
    'browse_dataset.py': {'*.png': 2},
    'test.py': {'*.jpg*': 2},
    'dist_test.sh': {'*.pkl': 1},
    'analyze_logs.py': {'*.png': 1},
    'image_demo.py': {'*.jpg.png': 2, '*.json': 2},
    'show_depths.py': {'*.png': 1},
    'grow.py': {'*.py': 1, '*.pth': 1},
    'plan_expansion.py': {'*.md': 1},
    'export_onnx.py': {'*.onnx': 1},
    'to_plain.py': {'*.py': 1, '*.pth': 1},
}


def run(place: Workplace, block: Block) -> None:
    if '--resume\n' in block.text:  # as after a crash: the last checkpoint is not there yet
        name = Path(re.search(r'configs/\S+\.py', block.text)[0]).stem
        next(place.folder.glob(f'work_dirs/{name}/*_2.pth')).unlink()
    output = place.run(block)
    for pattern, expected in DONE.items():
        if re.search(pattern, block.text):
            assert expected in output, f'{block}did not print "{expected}":\n{output[-4000:]}'
    for line in block.text.replace('\\\n', ' ').splitlines():
        if found := re.search(r'(\w+\.(?:py|sh)) .*--(?:out|show-dir) (\S+)', line):
            check_written(place.folder / found[2], WRITTEN[found[1]])


def check_written(target: Path, kinds: dict[str, int]) -> None:
    """The file or folder that a command was to write is there, with so many files of each kind, none of them empty."""
    for kind, number in kinds.items():
        files = list(target.rglob(kind)) if target.is_dir() else [target]
        assert len(files) == number and all(file.match(kind) for file in files), f'{target}: {files}'
        assert all(file.stat().st_size for file in files), f'an empty file in {target}'


@pytest.mark.parametrize('page', [pytest.param(page, id=page.stem, marks=[pytest.mark.slow] * (page.stem in LONG))
                                  for page in PAGES])
def test_page(page, python, tmp_path):
    """The blocks of a page in their order; a config that no command of the page uses is built and run."""
    code = blocks(page)
    unknown = [str(block) for block in code if block.language not in LANGUAGES]
    assert not unknown, 'not tested: ' + '\n'.join(unknown)
    place = Workplace(tmp_path, python, code)
    for block in code:
        if 'onnx' in block.text and find_spec('onnxruntime') is None:  # the original packages' environment has none
            continue
        if block.language == 'bash':
            run(place, block)
        elif not block.config:
            (place.folder / 'example.py').write_text(block.text)
            place.run(replace(block, text='python example.py'))
        elif not any(block.config in other.text for other in code if other.language == 'bash'):
            place.run(replace(block, text=f'python tools/analysis_tools/get_flops.py {block.config}'))


@pytest.mark.parametrize('command, said', [
    ('python tools/train.py configs/none.py', 'config "configs/none.py" does not exist'),
    ('frobnicate', 'command not found'),
    ('tools/dist_train.sh configs/none.py 8 | cat', 'config "configs/none.py" does not exist'),
])
def test_a_command_that_fails_is_found(command, said, python, tmp_path):
    place = Workplace(tmp_path, python, [])
    with pytest.raises(AssertionError, match=said):
        place.run(Block('page.md', 1, 'bash', f'{command}\n'))


def test_files_of_the_tables_exist():
    """Files named without a folder in a page's table are variants, in the folder that the page links above it."""
    for page in PAGES:
        for folder, rows in re.findall(r'^In \[(configs/\w+)\].*?\n\n(.*?)\n\n', page.read_text(), re.M | re.S):
            names = [name for pattern in re.findall(r'`([\w{},-]+\.py)`', rows) for name in spelt_out(pattern)]
            assert len(names) > 5
            for name in names:
                assert (DOCS.parent / folder / name).exists(), f'{page.name} names {folder}/{name}'


def spelt_out(pattern: str) -> list[str]:
    """``a-{b,c}`` is a-b and a-c."""
    start, _, rest = pattern.partition('{')
    choices, _, end = rest.partition('}')
    return [start + choice + end for choice in choices.split(',')]
