"""Write the zoo as data: a metafile.yml in each folder of configs, model-index.yml, and the tables of docs/zoo.md.

Parameters and multiply-adds, which the metafiles of OpenMMLab call FLOPs, are counted as get_flops.py does. A metric is
the last one of a log in docs/results that is named after the config, or of fashion_mnist.json there; a config without
one has none.
With folders, only theirs are counted anew.

    python tools/dev/zoo.py
    python tools/dev/zoo.py fashion fashion_scenes
"""
import argparse
import gc
import json
import sys
from functools import cache
from pathlib import Path

import yaml
from mmengine.config import Config
from mmengine.logging import MMLogger

from mmscalenet.engine import library_of, read_config, whole_file

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / 'tools/analysis_tools'))
from get_flops import build, count_multiply_adds, image_shape, table  # noqa: E402

#: Folder -> its collection.
COLLECTIONS = {
    'mask_rcnn': 'ScaleNet Mask R-CNN on COCO',
    'upernet': 'ScaleNet UperNet on ADE20K',
    'deit': 'ScaleNet DeiT on ImageNet-1k',
    'swin': 'ScaleNet Swin on ImageNet-1k',
    'fashion': 'ScaleNet on Fashion-MNIST',
    'fashion_scenes': 'ScaleNet on Fashion scenes',
}
PAPER = dict(Title='ScaleNet', URL='https://arxiv.org/abs/2510.18431')
#: Class of the data set -> its name.
DATASETS = {
    'ImageNet': 'ImageNet-1k', 'CocoDataset': 'COCO', 'ADE20KDataset': 'ADE20K', 'FashionMNIST': 'Fashion-MNIST',
    'mmscalenet.FashionScenesDataset': 'Fashion scenes', 'mmscalenet.FashionScenesSegDataset': 'Fashion scenes',
}
#: Key in a log -> task, metric, factor, decimals.
METRICS = {
    'accuracy/top1': ('Image Classification', 'Top 1 Accuracy', 1, 2),
    'coco/bbox_mAP': ('Object Detection', 'box AP', 100, 1),
    'coco/segm_mAP': ('Instance Segmentation', 'mask AP', 100, 1),
    'mIoU': ('Semantic Segmentation', 'mIoU', 1, 2),
}


def configs_of(folder: str) -> list[Path]:
    """The configs of a folder, and those beside the folders whose names hold that of this one, first."""
    entries = [path for path in sorted((ROOT / 'configs').glob('*.py'))
               if next(name for name in COLLECTIONS if name in path.stem) == folder]
    return entries + sorted((ROOT / 'configs' / folder).glob('*.py'))


def dataset_of(cfg: Config) -> str:
    dataset = cfg.train_dataloader.dataset
    dataset = dataset.get('dataset', dataset)
    pasted = any(transform.type == 'mmscalenet.PasteOnPhotograph' for transform in dataset.get('pipeline', []))
    return DATASETS[dataset.type] + ' on photographs' * pasted


def length_of(cfg: Config) -> dict[str, int]:
    """How long it trains."""
    if 'max_iters' in cfg.train_cfg:
        return dict(Iterations=cfg.train_cfg.max_iters)
    return dict(Epochs=cfg.train_cfg.max_epochs * cfg.train_dataloader.dataset.get('times', 1))


def log_of(path: Path) -> tuple[dict[str, float], str]:
    """The last validation of the run of a config and the file that holds it; nothing where there is none."""
    raw = ROOT / 'docs/results' / path.parent.name / f'{path.stem}.json'
    if raw.exists():
        lines = map(json.loads, raw.read_text().splitlines())
        return [line for line in lines if not METRICS.keys().isdisjoint(line)][-1], str(raw.relative_to(ROOT))
    raw = ROOT / 'docs/results/fashion_mnist.json'
    runs = [run for run in json.loads(raw.read_text()).values() if run['config'] == str(path.relative_to(ROOT))]
    return ({'accuracy/top1': runs[0]['top1'][-1]}, str(raw.relative_to(ROOT))) if runs else ({}, '')


@cache
def counts(model: str, library: str, image: tuple[int, int, int]) -> dict[str, int]:
    """Of a model as it stands in a config; configs that only train it in another way share it."""
    built = build(Config.fromstring(f'model = {model}\ndefault_scope = {library!r}', '.py'))
    found = {'Parameters': sum(parameter.numel() for parameter in built.parameters()),
             'FLOPs': count_multiply_adds(built, image)}
    del built
    gc.collect()  # as in get_flops.py
    return found


def entry(path: Path, collection: str) -> dict:
    """What a metafile says of a config."""
    cfg = read_config(str(path))
    size = image_shape(cfg)
    image = (cfg.model.backbone.get('in_channels', 3), size[0], size[-1])
    cfg.model.setdefault('data_preprocessor', cfg.get('data_preprocessor'))
    metadata = {'Training Data': dataset_of(cfg), **length_of(cfg), 'Image': 'x'.join(map(str, image)),
                **counts(repr(cfg.model.to_dict()), library_of(cfg), image)}
    last, raw = log_of(path)
    results = [
        dict(Task=task, Dataset=metadata['Training Data'], Metrics={metric: round(factor * last[key], decimals)})
        for key, (task, metric, factor, decimals) in METRICS.items() if key in last]
    return {'Name': path.stem, 'In Collection': collection, 'Config': str(path.relative_to(ROOT)),
            'Metadata': metadata | (dict(Log=raw) if raw else {})} | (dict(Results=results) if results else {})


def write_yaml(path: Path, head: str, content: dict) -> None:
    with whole_file(path) as part:
        part.write_text(f'# {head}\n' + yaml.safe_dump(content, sort_keys=False, width=120))


def count(folder: str) -> None:
    """Write the metafile of a folder."""
    collection = COLLECTIONS[folder]
    models = []
    for path in configs_of(folder):
        models.append(entry(path, collection))
        print(path.stem, models[-1]['Metadata'], flush=True)
    write_yaml(
        ROOT / 'configs' / folder / 'metafile.yml',
        'Written by tools/dev/zoo.py. FLOPs are multiply-adds of one image, as in the metafiles of OpenMMLab.',
        dict(Collections=[dict(Name=collection, Metadata=dict(Architecture=['ScaleNet']), Paper=PAPER)], Models=models))


def rows_of(folder: str) -> list[dict[str, str]]:
    """The table of a folder, from its metafile."""
    rows = []
    for model in yaml.safe_load((ROOT / 'configs' / folder / 'metafile.yml').read_text())['Models']:
        metadata = model['Metadata']
        results = model.get('Results', [])
        metrics = [f'{name} {value}' for result in results for name, value in result['Metrics'].items()]
        rows.append({
            'config': f'[{model["Name"]}](../{model["Config"]})',
            'image': metadata['Image'],
            'parameters (M)': f'{metadata["Parameters"] / 1e6:.3f}',
            'multiply-adds (G)': f'{metadata["FLOPs"] / 1e9:.3f}',
            'result': f'[{", ".join(metrics)}](../{metadata["Log"]})' if metrics else '',
        })
    return rows


def page() -> str:
    """docs/zoo.md."""
    tables = [f'## {collection}\n\n{table(rows_of(folder))}\n' for folder, collection in COLLECTIONS.items()]
    return '\n'.join(['''# All configs

Made by `python tools/dev/zoo.py` from the `metafile.yml` beside the configs, which `mim search` reads too.
Multiply-adds are those of one image, counted as `tools/analysis_tools/get_flops.py` does. A result is that of the last
validation of one run, whose log it links; most configs have not been run to their end here. No weights are published:
`python tools/reproduce.py CONFIG` makes a checkpoint of those on Fashion data again, and compares it with the figure
that its config expects.
''', *tables])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folders', nargs='*', help=f'of {", ".join(COLLECTIONS)}; default: all')
    folders = parser.parse_args().folders or list(COLLECTIONS)
    if unknown := set(folders) - set(COLLECTIONS):
        parser.error(f'no folder of the zoo: {", ".join(unknown)}')
    MMLogger.get_instance('zoo', log_level='WARNING')
    for folder in folders:
        count(folder)
    write_yaml(ROOT / 'model-index.yml', 'Written by tools/dev/zoo.py.',
               dict(Import=[f'configs/{folder}/metafile.yml' for folder in COLLECTIONS]))
    with whole_file(ROOT / 'docs/zoo.md') as path:
        path.write_text(page())


if __name__ == '__main__':
    main()
