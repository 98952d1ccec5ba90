"""The pages of docs/ as blocks of code, and a small place in which these run as they stand."""
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from dense import reduce_detector, reduce_segmentor
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from PIL import Image
from test_dist_train import SRUN

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / 'docs'
SHRINK = 8
TIMEOUT = 120


@dataclass
class Block:
    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f'docs/{self.page}:{self.line}\n{self.text}'

    @property
    def config(self) -> str | None:
        """The config file that a Python block is to be written to, which its first line names."""
        first = re.match(r'# (configs/[\w/-]+\.py)\n', self.text)
        return first and first[1]


def blocks(page: Path) -> list[Block]:
    """All blocks that hold code; a block without a language holds no code (a tree of files, an output)."""
    text = page.read_text()
    return [Block(page.name, text.count('\n', 0, found.start()) + 1, found[1], found[2])
            for found in re.finditer(r'^```(\w+)\n(.*?)^```$', text, re.M | re.S)]


class Workplace:
    """A folder like the checkout of a user who has the data, for a page's commands as they stand, at reduced size.

    What is small: the data sets; the models, images and schedules of the configs that the page names (2 iterations).
    What stands for something: 2 CPU processes for 8 GPUs, and 1 for those of each of several machines; this machine for
    host0; a script for Slurm's srun; random weights, under the names of the pretrained files, for these.
    """

    def __init__(self, folder: Path, python: Path, page: list[Block]) -> None:
        self.folder, self.full = folder / 'small', folder / 'full'
        self.folder.mkdir()
        (self.folder / 'tools').symlink_to(ROOT / 'tools')
        write_coco(self.folder / 'data/coco')
        write_ade(self.folder / 'data/ade/ADEChallengeData2016')
        write_own(self.folder / 'data/fruit')
        write_fashion_mnist(self.folder / 'data/fashion_mnist')
        self.weights = self.folder / 'checkpoints'
        self.weights.mkdir()
        self.hub = folder / 'torch/hub/checkpoints'
        self.hub.parent.mkdir(parents=True)
        self.hub.symlink_to(self.weights)
        self.port = free_port()
        commands = folder / 'commands'
        commands.mkdir()
        for name, text in (('srun', SRUN), ('scontrol', '#!/bin/bash\necho localhost\n'),
                           ('mmscalenet', '#!/bin/bash\nexec python -m mmscalenet "$@"\n')):
            (commands / name).write_text(text)
            (commands / name).chmod(0o755)
        self.env = {name: value for name, value in os.environ.items() if name != 'PYTHON'} | dict(
            PATH=f'{commands}:{python.parent}:{os.environ["PATH"]}', PYTHON_EXEC=str(python), OMP_NUM_THREADS='1',
            TORCH_HOME=str(folder / 'torch'), MASTER_PORT=self.port, CUDA_VISIBLE_DEVICES='-1')
        self.write_configs(page)

    def write_configs(self, page: list[Block]) -> None:
        """The configs that the page names or holds, reduced, at the places it says."""
        shutil.copytree(ROOT / 'configs', self.full / 'configs')
        named = {name for block in page for name in re.findall(r'\bconfigs/[\w/-]+\.py', block.text)}
        for block in page:
            if block.config:
                (self.full / block.config).write_text(block.text)
        for name in sorted(named):
            cfg = Config.fromfile(self.full / name)
            if cfg.default_scope in REDUCE:
                self.reduce(cfg)
            target = self.folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text('\n'.join(f'{key} = {value!r}' for key, value in cfg.to_dict().items()))

    def reduce(self, cfg: Config) -> None:
        REDUCE[cfg.default_scope](cfg)
        for split in ('train', 'val', 'test'):
            loader = cfg[f'{split}_dataloader']
            loader.update(num_workers=0, persistent_workers=False)
            if cfg.default_scope != 'mmpretrain':  # 28 x 28
                shrink_images(loader.dataset.pipeline)
        for transform in cfg.get('tta_pipeline', [])[1:]:
            transform.transforms[0] = transform.transforms[0][:2]  # sizes
        cfg.default_hooks.logger.interval = 1
        cfg.default_hooks.checkpoint.interval = 1
        init_default_scope(cfg.default_scope)
        for pretrained, model in pretrained_models(cfg):
            file = self.weights / Path(pretrained).name
            if not file.exists():
                torch.save(dict(state_dict=MODELS.build(model).state_dict()), file)

    def run(self, block: Block) -> str:
        """Run a block by bash, which ends at the first failure, and return what it printed.

        Raises:
            AssertionError: If it fails, with its place on the page and its output.
        """
        several = 'NODE_RANK=' in block.text
        text = block.text.replace('host0', '127.0.0.1').replace('29500', self.port)
        text = re.sub(r'(dist_(?:train|test)\.sh .*?) 8\b', rf'\1 {1 if several else 2}', text)
        text = re.sub(r'max_iters=\d+', 'max_iters=2', text)
        text = re.sub(r'--shape (\d+) (\d+)', lambda m: f'--shape {int(m[1]) // SHRINK} {int(m[2]) // SHRINK}', text)
        scripts = [line for line in text.splitlines() if line[:1] not in ('', '#')] if several else [text]
        with tempfile.TemporaryFile('w+') as log:
            running = [subprocess.Popen(['bash', '-euo', 'pipefail', '-c', script], cwd=self.folder, env=self.env,
                                        stdout=log, stderr=subprocess.STDOUT) for script in scripts]
            try:
                codes = [process.wait(TIMEOUT) for process in running]
            finally:
                for process in running:
                    process.kill()
            log.seek(0)
            output = log.read()
        assert not any(codes), f'{block}ended with {codes}:\n{output[-4000:]}'
        return output


def free_port() -> str:
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        return str(server.getsockname()[1])


def small_detector(cfg: Config) -> None:
    reduce_detector(cfg.model)
    # an untrained model is sure of nothing: any score counts
    cfg.model.test_cfg.rpn.update(nms_pre=50, max_per_img=20)
    cfg.model.test_cfg.rcnn.update(score_thr=0., max_per_img=5)
    cfg.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=2, val_interval=2)


def small_segmentor(cfg: Config) -> None:
    reduce_segmentor(cfg.model)
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=2, val_interval=2)


def small_classifier(cfg: Config) -> None:
    """All its epochs, of few images."""
    cfg.train_dataloader.dataset.pop('indices', None)


REDUCE = dict(mmdet=small_detector, mmseg=small_segmentor, mmpretrain=small_classifier)


def shrink_images(transforms: list) -> None:
    """An eighth of every size in a pipeline, those of nested transforms included."""
    for transform in transforms:
        if isinstance(transform, list):
            shrink_images(transform)
            continue
        for key in ('scale', 'scales', 'crop_size'):
            if key in transform:
                transform[key] = [size // SHRINK if isinstance(size, int) else tuple(side // SHRINK for side in size)
                                  for size in transform[key]]
                if key != 'scales':
                    transform[key] = tuple(transform[key])
        shrink_images(transform.get('transforms', []))


def pretrained_models(cfg: Config) -> Iterator[tuple[str, dict]]:
    """The files that a config starts from, and the models they hold: not grown, with COCO's classes."""
    model = deepcopy(cfg.model)
    init_cfg = model.backbone.pop('init_cfg', None)
    model.backbone.update(scale=1, adapter=None)
    if cfg.get('load_from'):
        for head in filter(None, (model.roi_head.bbox_head, model.roi_head.mask_head)):
            head.num_classes = 80
        yield cfg.load_from, model
    if init_cfg:
        if 'DeiT' in model.backbone.type:  # a pretrained one has a class token, and no windows
            model.backbone = {key: value for key, value in model.backbone.items()
                              if key not in ('with_cls_token', 'window_size')}
        yield init_cfg.checkpoint, model.backbone


def save(array: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def scene(index: int) -> tuple[np.ndarray, list[int]]:
    """A dark image with a bright rectangle, and its box (x, y, w, h)."""
    image = np.random.default_rng(index).integers(0, 60, (64, 96, 3), dtype=np.uint8)
    image[16:48, 20:60, index % 3] += 180
    return image, [20, 16, 40, 32]


def write_detection(root: Path, splits: dict[str, tuple[str, str]], categories: dict[int, str]) -> None:
    """Two images of each split, annotated as COCO does; ``splits``: annotation file -> folder of the images."""
    for file, folder in splits.items():
        coco = dict(images=[], annotations=[], categories=[dict(id=i, name=name) for i, name in categories.items()])
        for i in (1, 2):
            image, (x, y, w, h) = scene(i)
            save(image, root / folder / f'{i:012d}.jpg')
            coco['images'].append(dict(id=i, file_name=f'{i:012d}.jpg', width=96, height=64))
            coco['annotations'].append(dict(
                id=i, image_id=i, category_id=list(categories)[i - 1], bbox=[x, y, w, h], area=w * h, iscrowd=0,
                segmentation=[[x, y, x + w, y, x + w, y + h, x, y + h]]))
        (root / file).parent.mkdir(exist_ok=True)
        (root / file).write_text(json.dumps(coco))


def write_coco(root: Path) -> None:
    from mmdet.datasets import CocoDataset
    gaps = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}  # ids that COCO does not use
    ids = [i for i in range(1, 91) if i not in gaps]
    write_detection(root, {f'annotations/instances_{split}2017.json': f'{split}2017' for split in ('train', 'val')},
                    dict(zip(ids, CocoDataset.METAINFO['classes'], strict=True)))


def write_own(root: Path) -> None:
    write_detection(root, {f'{split}.json': 'images' for split in ('train', 'val')}, {1: 'apple', 2: 'pear'})


def write_fashion_mnist(root: Path) -> None:
    """Four images of each split in the format of MNIST: a magic number, the sizes, the bytes."""
    root.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split in ('train', 't10k'):
        for name, array in ((f'{split}-images-idx3-ubyte', rng.integers(0, 255, (4, 28, 28))),
                            (f'{split}-labels-idx1-ubyte', np.arange(4))):
            head = np.array([0x800 + array.ndim, *array.shape], '>i4').tobytes()
            (root / name).write_bytes(head + array.astype(np.uint8).tobytes())


def write_ade(root: Path) -> None:
    for split, name in (('training', 'train'), ('validation', 'val')):
        for i in (1, 2):
            image, (x, y, w, h) = scene(i)
            label = np.zeros(image.shape[:2], np.uint8)  # 0: none of the classes
            label[:, x:] = i
            label[y:y + h, x:x + w] = 150
            save(image, root / f'images/{split}/ADE_{name}_{i:08d}.jpg')
            save(label, root / f'annotations/{split}/ADE_{name}_{i:08d}.png')
