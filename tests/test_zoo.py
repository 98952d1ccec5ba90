"""The zoo as data: what metafile.yml, model-index.yml and docs/zoo.md say is so, and nothing is left out."""
import json
import re
import sys
from pathlib import Path

import pytest
import yaml

from mmscalenet.engine import read_config

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / 'tools/dev'), str(ROOT / 'tools/analysis_tools')]
import get_flops  # noqa: E402
import zoo  # noqa: E402

INDEX = yaml.safe_load((ROOT / 'model-index.yml').read_text())['Import']
METAFILES = {name: yaml.safe_load((ROOT / name).read_text()) for name in INDEX}
MODELS = {model['Name']: model for metafile in METAFILES.values() for model in metafile['Models']}
#: Counted in seconds.
QUICK = ('scalenet-deit-mini-x2_3e_fashion-mnist', 'swin-mini-depth12_scratch-9e_fashion-mnist',
         'mask-rcnn_scalenet-swin-nano-x2-gated_1e_fashion-scenes', 'upernet_deit-nano_6000i_fashion-scenes')


def test_every_config_is_in_one_metafile():
    """But for the parts in _base_, and those of the study, whose results are its own tables."""
    configs = {str(path.relative_to(ROOT)) for path in (ROOT / 'configs').rglob('*.py')
               if not {'_base_', 'study'} & set(path.parts)}
    listed = [model['Config'] for metafile in METAFILES.values() for model in metafile['Models']]
    assert sorted(listed) == sorted(configs)
    assert all(Path(model['Config']).stem == name for name, model in MODELS.items())
    assert len(MODELS) == len(configs), 'mim and mmengine find them by these names'
    assert set(INDEX) == {str(path.relative_to(ROOT)) for path in (ROOT / 'configs').rglob('metafile.yml')}


def test_images_are_those_the_models_see():
    for model in MODELS.values():
        height, width = (2 * get_flops.image_shape(read_config(str(ROOT / model['Config']))))[:2]
        assert model['Metadata']['Image'][2:] == f'{height}x{width}', model['Name']


def test_collections():
    names = [collection['Name'] for metafile in METAFILES.values() for collection in metafile['Collections']]
    assert len(set(names)) == len(names) == len(INDEX)
    for metafile in METAFILES.values():
        assert {model['In Collection'] for model in metafile['Models']} == {metafile['Collections'][0]['Name']}


def figures(name: str) -> tuple[str, str, str]:
    metadata = MODELS[name]['Metadata']
    return metadata['Image'], f'{metadata["Parameters"] / 1e6:.3f}', f'{metadata["FLOPs"] / 1e9:.3f}'


def test_figures_of_classifiers_are_those_of_the_results():
    rows = re.findall(r'^\| (\S+) \| (3x\S+) \| (\S+) \| (\S+) \|$', (ROOT / 'docs/results/flops.md').read_text(), re.M)
    assert len(rows) == 30
    for name, *row in rows:
        assert figures(name) == tuple(row), name


@pytest.mark.parametrize('name', [
    pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow, pytest.mark.timeout(900)]) for name in MODELS])
def test_figures_are_those_of_get_flops(name):
    image = MODELS[name]['Metadata']['Image']
    row = get_flops.measure(read_config(str(ROOT / MODELS[name]['Config'])), [int(n) for n in image.split('x')[1:]],
                            backbone=False, memory=False)
    assert figures(name) == (row['image'], row['parameters (M)'], row['multiply-adds (G)'])


def raw(model: dict) -> dict[str, float]:
    """The last validation in the log that a metafile names, by the names of its metrics."""
    text = (ROOT / model['Metadata']['Log']).read_text()
    if model['Metadata']['Log'].endswith('fashion_mnist.json'):
        run, = (run for run in json.loads(text).values() if run['config'] == model['Config'])
        return {'Top 1 Accuracy': run['top1'][-1]}
    assert Path(model['Metadata']['Log']).stem == model['Name'], 'a log of another config'
    last = [line for line in map(json.loads, text.splitlines()) if 'loss' not in line][-1]
    found = {'Top 1 Accuracy': last.get('accuracy/top1'), 'mIoU': last.get('mIoU')}
    if 'coco/bbox_mAP' in last:
        found |= {'box AP': 100 * last['coco/bbox_mAP'], 'mask AP': 100 * last['coco/segm_mAP']}
    return {key: value for key, value in found.items() if value is not None}


def test_no_metric_without_a_raw_line_and_none_left_out():
    logs = {path.stem for path in (ROOT / 'docs/results').glob('*/*.json')}
    more = {run['config'] for run in json.loads((ROOT / 'docs/results/fashion_mnist.json').read_text()).values()}
    counted = 0
    for name, model in MODELS.items():
        metrics = {key: value for result in model.get('Results', []) for key, value in result['Metrics'].items()}
        assert bool(metrics) == ('Log' in model['Metadata']) == (name in logs or model['Config'] in more), name
        if metrics:
            assert metrics == pytest.approx(raw(model), abs=0.0051), name
            counted += 1
    assert counted >= 15


def test_the_page_is_made_from_the_metafiles():
    assert (ROOT / 'docs/zoo.md').read_text() == zoo.page()
