"""Samples and batches that bring the seed of what their loading draws."""
import pickle
import random

import numpy as np
import pytest
import torch
from mmdet.datasets.samplers import GroupMultiSourceSampler, MultiSourceSampler
from mmengine.dataset import InfiniteSampler
from torch.utils.data import BatchSampler, ConcatDataset, DataLoader, Dataset, RandomSampler, Subset

from mmscalenet.engine.numbered_data import (
    EndlessBatches,
    NumberedDataset,
    number_data,
    restore_sampler_seed,
    sampler_seed,
)


class Draws(Dataset):
    """What each of the three generators draws for an index."""

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> list:
        return [index, random.random(), np.random.rand(), torch.rand(1).item()]


def loader_of(dataset=None, workers: int = 0, endless: bool = False) -> DataLoader:
    dataset = dataset or Draws()
    sampler = InfiniteSampler(dataset, seed=1) if endless else RandomSampler(dataset)
    loader = DataLoader(dataset, batch_sampler=BatchSampler(sampler, 2, False), num_workers=workers,
                        persistent_workers=workers > 0, collate_fn=list)
    assert number_data(loader, seed=3, rank=0) is number_data(loader, seed=3, rank=0)
    return loader


def taken(batches, number: int) -> list:
    torch.rand(random.randint(1, 9))  # whatever else draws
    return [next(batches) for _ in range(number)]


def test_draws_follow_from_the_place():
    """Over three epochs of torch's own sampler: with and without workers, from the start or from anywhere."""
    whole = taken(EndlessBatches(loader_of()), 9)
    assert taken(EndlessBatches(loader_of(workers=2)), 9) == whole
    assert taken(EndlessBatches(loader_of(Subset(Draws(), range(5)))), 9) == whole
    assert taken(EndlessBatches(loader_of(), 1, 2), 4) == whole[5:]
    draws = [draw for batch in whole for sample in batch for draw in sample[1:]]
    assert len(set(draws)) == len(draws) == 45
    orders = [[sample[0] for batch in whole[start:start + 3] for sample in batch] for start in (0, 3, 6)]
    assert [sorted(order) for order in orders] == [[0, 1, 2, 3, 4]] * 3 and orders[0] != orders[1] != orders[2]


class Sizes(Draws):
    """Images, of which mmdet's sampler makes two groups: upright and lying."""

    def get_data_info(self, index: int) -> dict:
        return dict(width=1 + index % 2, height=1)


@pytest.mark.parametrize('kind', [MultiSourceSampler, GroupMultiSourceSampler])
def test_samplers_of_several_sources(kind):
    """mmdet's for semi-supervised training; that by groups draws a group from numpy's generator for every batch."""

    def loader(seed: int = 1, workers: int = 0) -> DataLoader:
        dataset = ConcatDataset([Sizes(), Sizes()])
        sampler = kind(dataset, batch_size=3, source_ratio=[1, 2], seed=seed)
        loader = DataLoader(dataset, batch_sampler=BatchSampler(sampler, 3, True), num_workers=workers, collate_fn=list)
        number_data(loader, seed=3, rank=0)
        return loader

    whole = taken(EndlessBatches(loader()), 9)
    assert taken(EndlessBatches(loader(workers=2)), 9) == whole
    assert taken(EndlessBatches(loader(), 0, 4), 5) == whole[4:]
    other = loader(seed=2)
    next(iter(other.batch_sampler.sampler))
    restore_sampler_seed(other, 1)
    assert sampler_seed(other) == 1 and taken(EndlessBatches(other), 9) == whole


def test_indices_that_a_sampler_lists_once_stay():
    """As those of mmdet's TrackImgSampler."""
    loader = loader_of()
    loader.batch_sampler.batches.sampler.seed = 2
    loader.batch_sampler.batches.sampler.indices = [3, 1]
    restore_sampler_seed(loader, 1)
    assert sampler_seed(loader) == 1 and loader.batch_sampler.sampler.indices == [3, 1]


def test_whole_batches_are_seeded_by_the_batch():
    class Batches(Draws):
        def __getitems__(self, indices: list[int]) -> list:
            return [[*indices, random.random(), np.random.rand(), torch.rand(1).item()]]

    whole = taken(EndlessBatches(loader_of(Batches())), 9)
    assert taken(EndlessBatches(loader_of(Batches(), workers=2)), 9) == whole
    assert taken(EndlessBatches(loader_of(Batches()), 1, 2), 4) == whole[5:]
    draws = [draw for batch, in whole for draw in batch[-3:]]
    assert len(set(draws)) == len(draws) == 27


def test_endless_sampler():
    whole = taken(EndlessBatches(loader_of(endless=True)), 9)
    resumed = EndlessBatches(loader_of(endless=True), 0, 4, passed=4)
    resumed.skip_iter(4)  # as onedl-mmengine asks
    assert taken(resumed, 5) == whole[4:]
    resumed = EndlessBatches(loader_of(endless=True), 0, 4, passed=4)
    assert taken(resumed, 9) == [None] * 4 + whole[4:]  # as mmengine takes them


def test_data_set_is_what_is_inside():
    class Inside(Draws):
        pipeline = 'one'

    inside = Inside()
    dataset = NumberedDataset(inside)
    dataset.pipeline = 'two'
    assert inside.pipeline == dataset.pipeline == 'two' and len(dataset) == 5 and dataset[3][0] == 3
    assert not hasattr(dataset, 'datasets')
    assert pickle.loads(pickle.dumps(NumberedDataset([1, 2])))[1] == 2
