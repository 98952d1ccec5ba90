"""Inference with a model of any of the three libraries."""
import os
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.dataset import Compose, pseudo_collate
from mmengine.device import get_device
from mmengine.fileio import list_from_file
from mmengine.registry import DATASETS
from mmengine.structures import BaseDataElement
from PIL import Image
from torch import nn

from mmscalenet.engine import read_config, short_type
from mmscalenet.engine.depth import expanded_backbones

from .drawing import Drawer, enter_scope
from .loading import load_model
from .results import describe


class Inferencer:
    """A trained model of mmpretrain, mmdet or mmseg, ready for images.

    As the inferencers of the libraries (https://mmengine.readthedocs.io/en/latest/design/infer.html), but one for all
    three. Images are read as the config's test pipeline reads them, gray ones included. The checkpoint is read without
    running code in it, unless the config says ``trusted = True``, and refused where it does not fit the model exactly;
    weights that ``init_cfg`` names are not needed. Results come one by one, so a folder of any size fits into memory.

    Args:
        config (str | os.PathLike | Config): The config the model was trained with, or its path.
        checkpoint (str | os.PathLike): What the training wrote: path or URL. Class names are taken from it, else from
            the data set of the config.
        device (str, optional): 'cpu', 'cuda', 'cuda:1', ... Defaults to None: a GPU if there is one.
        depth (int | Sequence[int], optional): How many positions of a grown backbone run, see
            :meth:`mmscalenet.Expanded.set_depth`. Defaults to None: as the config and the checkpoint say.

    Attributes:
        classes (list[str]): Names of the labels.

    Raises:
        UsageError: If the config does not exist.
        CheckpointError: If the checkpoint cannot be read or does not fit the config.
        ValueError: If the config is not of mmpretrain, mmdet or mmseg, has no test pipeline or a model of videos, or
            the backbone does not run at that depth.

    Example:
        >>> inferencer = Inferencer('configs/mask_rcnn_scalenet_swin.py', 'epoch_12.pth')
        >>> for sample in inferencer(['a.jpg', 'b.jpg']):
        ...     print(inferencer.describe(sample, score_thr=0.3)['names'])
    """

    def __init__(self, config: str | os.PathLike | Config, checkpoint: str | os.PathLike,
                 device: str | None = None, depth: int | Sequence[int] | None = None) -> None:
        cfg = config if isinstance(config, Config) else read_config(os.fspath(config))
        enter_scope(cfg)
        dataset = _dataset(cfg)
        self.model, content = load_model(cfg, checkpoint)
        if hasattr(self.model, 'tracker') or type(self.model.data_preprocessor).__name__ == 'TrackDataPreprocessor':
            raise ValueError(f'{type(self.model).__name__} takes videos, and only images can be predicted here. Run '
                             'tools/test.py on a data set of videos.')
        if depth is not None:
            grown = expanded_backbones(self.model).values()
            if not grown:
                raise ValueError(f'depth={depth!r} needs a grown backbone, and the {type(self.model).__name__} of the '
                                 'config has none')
            for backbone in grown:  # several where a model holds others, as SoftTeacher does a student and a teacher
                backbone.set_depth(depth)
        self.model.to(device or get_device())
        meta = _name_all(_meta(content, dataset), _class_count(self.model))
        self.classes = meta['classes']
        self.draw_rgb = Drawer(cfg, meta)
        self.loader, self.pipeline = _pipeline(cfg, dataset)

    def load(self, path: str | os.PathLike) -> np.ndarray:
        """Reads an image as the test pipeline does: BGR (H, W, 3), or (H, W) where the model takes one channel.

        Raises:
            ValueError: If there is no such image, or it is damaged or cut short.
        """
        try:
            with Image.open(path) as image:  # OpenCV fills up the missing part of a file cut short and says nothing
                image.load()
            return self.loader(dict(img_path=os.fspath(path)))['img']
        except Exception as error:
            raise ValueError(f'image "{path}" cannot be read: {error}') from error

    @torch.no_grad()
    def __call__(self, images: str | os.PathLike | np.ndarray | Iterable[str | os.PathLike | np.ndarray],
                 batch_size: int = 1) -> Iterator[BaseDataElement]:
        """Predicts.

        Args:
            images (str | os.PathLike | np.ndarray | Iterable[str | os.PathLike | np.ndarray]): Paths, or arrays as
                :meth:`load` gives them; one, or any number.
            batch_size (int): Most images in a batch, which holds neighbours of the same size after the pipeline.
                Defaults to 1.

        Yields:
            BaseDataElement: The library's data sample of each image, in their order, on the CPU.
        """
        batch = []
        for image in [images] if isinstance(images, (str, os.PathLike, np.ndarray)) else images:
            data = self._prepare(image)
            if batch and (len(batch) == batch_size or data['inputs'].shape != batch[0]['inputs'].shape):
                yield from self._predict(batch)
                batch = []
            batch.append(data)
        if batch:
            yield from self._predict(batch)

    def describe(self, sample: BaseDataElement, score_thr: float = 0.) -> dict:
        """See :func:`~mmscalenet.apis.describe`."""
        return describe(sample, self.classes, score_thr)

    def draw(self, image: str | os.PathLike | np.ndarray, sample: BaseDataElement,
             score_thr: float = 0.3) -> np.ndarray:
        """Draws a prediction on its image, a path or an array as for a call; the picture is RGB (H, W, 3)."""
        image = image if isinstance(image, np.ndarray) else self.load(image)
        # the first three channels, of BGR and maybe a fourth
        return self.draw_rgb(image[..., 2::-1] if image.ndim == 3 else image, sample, score_thr=score_thr)

    def _prepare(self, image: str | os.PathLike | np.ndarray) -> dict:
        path = '' if isinstance(image, np.ndarray) else os.fspath(image)
        image = image if isinstance(image, np.ndarray) else self.load(image)
        size = image.shape[:2]
        return self.pipeline(dict(img=image, img_shape=size, ori_shape=size, img_path=path, img_id=0))

    def _predict(self, batch: list[dict]) -> list[BaseDataElement]:
        return [sample.cpu() for sample in self.model.test_step(pseudo_collate(batch))]


def _dataset(cfg: Config) -> ConfigDict:
    """The data set of the test, or else of the validation, inside its wrappers."""
    dataset = (cfg.get('test_dataloader') or cfg.get('val_dataloader') or {}).get('dataset') or {}
    while 'pipeline' not in dataset:
        inner = dataset.get('dataset') or next(iter(dataset.get('datasets') or []), None)
        if inner is None:
            raise ValueError('the config has no test_dataloader whose dataset has a pipeline: how images are prepared '
                             'for the model is not known. Add one.')
        dataset = inner
    return dataset


def _meta(content: dict, dataset: ConfigDict) -> dict:
    """Class names and palette: those of the training, else those of the config's data set."""
    saved = content.get('meta') or {}
    for meta in (saved.get('dataset_meta'), saved, dataset.get('metainfo'), dict(classes=dataset.get('classes')),
                 _own_meta(dataset.type)):
        meta = {key.lower(): value for key, value in (meta or {}).items()}
        if isinstance(meta.get('classes'), str):  # mmpretrain's data sets take a file of names, too
            meta['classes'] = list_from_file(os.path.expanduser(meta['classes']))
        meta = {key: value for key, value in meta.items() if isinstance(value, (list, tuple))}
        if meta.get('classes'):
            return meta
    return {}


def _name_all(meta: dict, count: int) -> dict:
    """With names for classes of the head that have none: of a data set without names, or with fewer classes."""
    names = list(meta.get('classes') or [])
    if len(names) < count:
        palette = list(meta.get('palette') or [])
        meta = dict(palette=(palette * (count // len(palette) + 1))[:count]) if palette else {}
        names += [f'class {label}' for label in range(len(names), count)]
    return meta | dict(classes=names)


def _own_meta(kind: str | type) -> dict:
    """What a class of data sets, or the one of that name, says of itself."""
    if isinstance(kind, str):
        with DATASETS.switch_scope_and_registry(None) as registry:  # the root alone knows no data set of a library
            kind = registry.get(kind)
    return getattr(kind, 'METAINFO', {})


def _class_count(model: nn.Module) -> int:
    counts = (getattr(module, 'num_classes', 0) for module in model.modules())
    return max(count for count in counts if isinstance(count, int))


def _pipeline(cfg: Config, dataset: ConfigDict) -> tuple[Compose, Compose]:
    """What reads an image, and what follows. Annotations are left out: an image of a user has none."""
    names = [short_type(step) for step in dataset.pipeline]
    steps = dict(enumerate(dataset.pipeline))
    loaders = [steps.pop(i) for i, name in enumerate(names) if name.startswith('LoadImage')]
    if not loaders:  # a data set that holds its images in memory, e.g. Fashion-MNIST
        gray = cfg.model.get('backbone', {}).get('in_channels', 3) == 1
        loaders = [dict(type='LoadImageFromFile', color_type='grayscale' if gray else 'color')]
    rest = [step for i, step in steps.items() if 'Annotation' not in names[i]]
    return Compose(loaders[:1]), Compose(rest)
