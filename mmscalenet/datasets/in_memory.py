"""Fashion-MNIST as whole batches from memory, for small models that a loader of single images would keep waiting."""
from collections.abc import Sequence

import numpy as np
import torch
from mmpretrain.datasets import FashionMNIST
from mmpretrain.structures import DataSample

from mmscalenet.registry import DATASETS, FUNCTIONS


@DATASETS.register_module()
class InMemoryFashionMNIST(FashionMNIST):
    """mmpretrain's ``FashionMNIST``, cropped and flipped a batch at a time.

    The loader needs ``collate_fn=dict(type='mmscalenet.keep_batch')`` and no pipeline. What is drawn at random depends
    on the images of the batch alone: a resumed run, whose sampler goes on in the same order, sees what it would have
    seen without the break, and so does every run that goes on from one checkpoint.

    Args:
        padding (int): Black pixels put around an image, from which a part of the old size is then cut at random.
            Defaults to 0: no cropping.
        flip_prob (float): Chance that an image is mirrored. Defaults to 0.
        **kwargs: Those of ``FashionMNIST``, e.g. ``data_root``, ``test_mode`` and ``indices``.

    Raises:
        ValueError: If ``padding`` is negative or ``flip_prob`` no probability.
    """

    def __init__(self, padding: int = 0, flip_prob: float = 0., **kwargs) -> None:
        if padding < 0 or not 0 <= flip_prob <= 1:
            raise ValueError(f'padding={padding!r}, flip_prob={flip_prob!r} is not allowed; give a padding from 0 on '
                             'and a probability from 0 to 1')
        self.padding = padding
        self.flip_prob = flip_prob
        super().__init__(serialize_data=False, **kwargs)

    def full_init(self) -> None:
        if self._fully_initialized:
            return
        super().full_init()
        self.images = np.pad(np.stack([record['img'] for record in self.data_list]),
                             [(0, 0), *[(self.padding, self.padding)] * 2])
        # one tensor a class, as taking a tensor of labels apart at every batch is slower than all the rest
        classes = [torch.tensor([number]) for number in range(len(self.metainfo['classes']))]
        self.labels = [classes[int(record['gt_label'])] for record in self.data_list]
        self.side = self.images.shape[-1] - 2 * self.padding

    def __getitems__(self, indices: Sequence[int]) -> dict:
        """A batch as mmpretrain's data preprocessor takes it: ``inputs`` (B, 1, H, W), and a data sample an image."""
        rng = np.random.default_rng(list(indices))
        top, left = rng.integers(0, 2 * self.padding + 1, (2, len(indices), 1, 1))
        rows = columns = np.arange(self.side)
        columns = np.where(rng.random((len(indices), 1, 1)) < self.flip_prob, columns[::-1], columns)
        images = self.images[np.asarray(indices)[:, None, None], top + rows[:, None], left + columns]
        return dict(inputs=torch.from_numpy(images)[:, None],
                    data_samples=[DataSample().set_gt_label(self.labels[i]) for i in indices])


@FUNCTIONS.register_module()
def keep_batch(batch: dict) -> dict:
    """Collates what is a batch already."""
    return batch
