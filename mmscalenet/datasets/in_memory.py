"""Fashion-MNIST as whole batches from memory, for small models that a loader of single images would keep waiting."""
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from mmpretrain.datasets import FashionMNIST
from mmpretrain.structures import DataSample

from mmscalenet.engine.files import whole_file
from mmscalenet.registry import DATASETS, FUNCTIONS


@DATASETS.register_module()
class InMemoryFashionMNIST(FashionMNIST):
    """mmpretrain's ``FashionMNIST``, cropped and flipped a batch at a time.

    The loader needs ``collate_fn=dict(type='mmscalenet.keep_batch')``. What is drawn at random depends on the images of
    the batch alone: a resumed run, whose sampler goes on in the same order, sees what it would have seen without the
    break, and so does every run that goes on from one checkpoint.

    Args:
        padding (int): Black pixels put around an image, from which a part of the old size is then cut at random.
            Defaults to 0: no cropping.
        flip_prob (float): Chance that an image is mirrored. Defaults to 0.
        pipeline (Sequence[dict | Callable]): What every image passes once, when they are loaded, with the same random
            numbers in every run, e.g. ``dict(type='mmscalenet.PasteOnPhotograph', size=40)``. Defaults to nothing.
        cache (str, optional): Folder in which images that a pipeline has made are kept for the next run, under a name
            that says from what. Defaults to None: they are made anew.
        **kwargs: Those of ``FashionMNIST``, e.g. ``data_root``, ``test_mode`` and ``indices``.

    Raises:
        ValueError: If ``padding`` is negative or ``flip_prob`` no probability.
    """

    def __init__(self, padding: int = 0, flip_prob: float = 0., cache: str | None = None, **kwargs) -> None:
        if padding < 0 or not 0 <= flip_prob <= 1:
            raise ValueError(f'padding={padding!r}, flip_prob={flip_prob!r} is not allowed; give a padding from 0 on '
                             'and a probability from 0 to 1')
        self.padding = padding
        self.flip_prob = flip_prob
        self.cache = cache
        super().__init__(serialize_data=False, **kwargs)

    def full_init(self) -> None:
        if self._fully_initialized:
            return
        super().full_init()
        images = self._cached() if self.cache else self._pass_once()
        self.images = np.pad(images, [(0, 0), *[(self.padding, self.padding)] * 2, (0, 0)][:images.ndim])
        # one tensor a class, as taking a tensor of labels apart at every batch is slower than all the rest
        classes = [torch.tensor([number]) for number in range(len(self.metainfo['classes']))]
        self.labels = [classes[int(record['gt_label'])] for record in self.data_list]
        self.side = images.shape[1]

    def _cached(self) -> np.ndarray:
        source = [f'{self.pipeline!r}'.encode(), *(record['img'].tobytes() for record in self.data_list)]
        file = Path(self.cache) / f'{hashlib.sha256(b"".join(source)).hexdigest()[:16]}.npy'
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(file) as path, open(path, 'wb') as temporary:
                np.save(temporary, self._pass_once())
        return np.load(file)

    def _pass_once(self) -> np.ndarray:
        """The images (N, H, W) or (N, H, W, C) as the pipeline makes them."""
        state = np.random.get_state()
        np.random.seed(0)
        try:
            return np.stack([self.pipeline(record | dict(sample_idx=number))['img']
                             for number, record in enumerate(self.data_list)])
        finally:
            np.random.set_state(state)

    def __getitems__(self, indices: Sequence[int]) -> dict:
        """A batch as mmpretrain's data preprocessor takes it: ``inputs`` (B, C, H, W), and a data sample an image."""
        rng = np.random.default_rng(list(indices))
        tops, lefts = rng.integers(0, 2 * self.padding + 1, (2, len(indices)))
        mirrored = rng.random(len(indices)) < self.flip_prob
        images = np.empty((len(indices), self.side, self.side, *self.images.shape[3:]), self.images.dtype)
        for image, index, top, left, mirror in zip(images, indices, tops, lefts, mirrored, strict=True):
            part = self.images[index, top:top + self.side, left:left + self.side]
            image[:] = part[:, ::-1] if mirror else part
        inputs = torch.from_numpy(images)
        return dict(inputs=inputs.permute(0, 3, 1, 2) if inputs.ndim == 4 else inputs[:, None],
                    data_samples=[DataSample().set_gt_label(self.labels[i]) for i in indices])


@FUNCTIONS.register_module()
def keep_batch(batch: dict) -> dict:
    """Collates what is a batch already."""
    return batch
