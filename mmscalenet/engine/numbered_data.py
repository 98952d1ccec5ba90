"""Training data as a function of their place in the run: not of what a worker process did before."""
import random
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, Subset

#: What the numbers drawn are for; part of every seed.
ITERATION, VALIDATION, EPOCH, SAMPLE = range(4)


def seed_generators(*key: int) -> None:
    """Seed Python's, numpy's and torch's generators, those of GPUs included, with a sequence of whole numbers.

    In 10 microseconds, as it is done for every sample; the hash of such a sequence is the same in every process.
    """
    seed = hash(key) & (1 << 63) - 1
    random.seed(seed)
    np.random.seed(seed & (1 << 32) - 1)
    torch.default_generator.manual_seed(seed)
    # torch.manual_seed would make a list of calls for GPUs that are not in use; a forked worker may not touch them
    if torch.cuda.is_initialized() and not torch.cuda._is_in_bad_fork():
        torch.cuda.manual_seed_all(seed)


class Numbered(NamedTuple):
    """The index of a sample, with the seed of what its loading draws."""
    key: tuple[int, ...]
    index: Any


class NumberedDataset:
    """A data set that takes :class:`Numbered` indices, and is in all else what is inside.

    Args:
        dataset (Any): The data set.
    """

    def __init__(self, dataset: Any) -> None:
        vars(self)['_inside'] = dataset

    def __getitem__(self, item: Any) -> Any:
        if isinstance(item, Numbered):
            seed_generators(*item.key)
            item = item.index
        return self._inside[item]

    def __len__(self) -> int:
        return len(self._inside)

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__') or name == '_inside':  # what torch looks for gets indices alone
            raise AttributeError(name)
        return getattr(self._inside, name)

    def __setattr__(self, name: str, value: Any) -> None:  # hooks put another pipeline there
        setattr(self._inside, name, value)


class NumberedBatchDataset(NumberedDataset):
    """The same of one that loads whole batches: seeded with the number of the first sample."""

    def __getitems__(self, items: list[Any]) -> Any:
        if items and isinstance(items[0], Numbered):
            seed_generators(*items[0].key)
            items = [item.index for item in items]
        return self._inside.__getitems__(items)


class NumberedBatches:
    """The batches of a batch sampler with :class:`Numbered` indices, in the first pass from some batch on.

    Args:
        batches (Iterable): The batch sampler.
        seed (int): The seed of the run.
        rank (int): The number of the process.
    """

    def __init__(self, batches: Iterable, seed: int, rank: int) -> None:
        self.batches, self.seed, self.rank = batches, seed, rank
        self.epoch = self.start = 0

    def __iter__(self) -> Iterator[list[Numbered]]:
        epoch, start = self.epoch, self.start
        self.epoch, self.start = epoch + 1, 0
        seed_generators(self.seed, EPOCH, epoch, 0)  # some samplers of torch draw from its generator
        for number, batch in enumerate(self.batches):
            if number >= start:
                yield [Numbered((self.seed, SAMPLE, self.rank, epoch, number, place), index)
                       for place, index in enumerate(batch)]
            seed_generators(self.seed, EPOCH, epoch, number + 1)  # GroupMultiSourceSampler draws for each batch

    def __len__(self) -> int:
        return len(self.batches)

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__') or name == 'batches':
            raise AttributeError(name)
        return getattr(self.batches, name)


class EndlessBatches:
    """A loader's batches, epoch after epoch without end: what ``IterBasedTrainLoop`` iterates.

    mmengine's own loads what a resumed run passes over, and that before the run begins.

    Args:
        loader (DataLoader): The loader; its batch sampler is a :class:`NumberedBatches`.
        epoch (int): The first epoch. Defaults to 0.
        batch (int): Number of batches of it that are passed over. Defaults to 0.
        passed (int): Number of batches before that, which the loop will ask to pass over. Defaults to 0.
    """

    def __init__(self, loader: DataLoader, epoch: int = 0, batch: int = 0, passed: int = 0) -> None:
        self.loader, self.epoch, self.batch, self.passed = loader, epoch, batch, passed
        self.iterator = None

    def skip_iter(self, count: int) -> None:
        """Of the loops of onedl-mmengine; those of mmengine take that many batches instead."""
        self.passed = 0

    def __iter__(self) -> 'EndlessBatches':
        return self

    def __next__(self) -> Any:
        if self.passed:
            self.passed -= 1
            return None
        if self.iterator is None:
            self._begin()
        try:
            data = next(self.iterator)
        except StopIteration:
            self.epoch, self.batch = self.epoch + 1, 0
            self._begin()
            data = next(self.iterator)
        self.batch += 1
        return data

    def _begin(self) -> None:
        batches = self.loader.batch_sampler
        batches.epoch, batches.start = self.epoch, self.batch
        set_epoch = getattr(getattr(batches, 'sampler', None), 'set_epoch', None)
        if set_epoch:
            set_epoch(self.epoch)
        self.iterator = iter(self.loader)


def number_data(loader: Any, seed: int, rank: int) -> NumberedBatches | None:
    """Have a loader number its samples and seed the loading of each.

    Args:
        loader (Any): The loader, before its first iteration.
        seed (int): The seed of the run.
        rank (int): The number of the process.

    Returns:
        NumberedBatches | None: What is now its batch sampler; None, and nothing is changed, where samples have no
        indices or come without batches.
    """
    if (not isinstance(loader, DataLoader) or loader.batch_sampler is None
            or isinstance(loader.dataset, IterableDataset)):
        return None
    if isinstance(loader.batch_sampler, NumberedBatches):
        return loader.batch_sampler
    batches = NumberedBatches(loader.batch_sampler, seed, rank)
    # past torch's check that nobody changes a loader whose workers have started; mmengine may have started some early
    # torch's Subset only hands batches on
    whole = hasattr(loader.dataset, '__getitems__') and not isinstance(loader.dataset, Subset)
    kind = NumberedBatchDataset if whole else NumberedDataset
    vars(loader).update(dataset=kind(loader.dataset), batch_sampler=batches, _iterator=None)
    return batches


def sampler_seed(loader: Any) -> int | None:
    """The seed of the sampler that orders a loader's data; None if it has none."""
    sampler = _seeded_sampler(loader)
    return None if sampler is None else sampler.seed


def restore_sampler_seed(loader: Any, seed: int | None) -> None:
    """Where the config has no seed, mmengine builds the sampler before it knows that of the resumed run."""
    sampler = _seeded_sampler(loader)
    if seed is not None and sampler is not None and sampler.seed != seed:
        sampler.seed = seed
        _start_again(sampler)


def _start_again(sampler: Any) -> None:
    """Have samplers without end draw with their present seed: mmengine may have taken some indices already."""
    of_rank = getattr(sampler, '_indices_of_rank', None)
    if of_rank is None:
        return
    if hasattr(sampler, 'indices'):  # InfiniteSampler
        sampler.indices = of_rank()
    if hasattr(sampler, 'source2inds'):  # mmdet's MultiSourceSampler
        sampler.source2inds = {source: of_rank(len(part)) for source, part in enumerate(sampler.dataset.datasets)}
    if hasattr(sampler, 'group_source2inds'):  # and GroupMultiSourceSampler
        sampler.group_source2inds = [
            {source: of_rank(sizes[group]) for source, sizes in enumerate(sampler.group2size_per_source)}
            for group in range(len(sampler.group_ratio))]


def _seeded_sampler(loader: Any) -> Any:
    batches = getattr(loader, 'batch_sampler', None)
    if isinstance(batches, NumberedBatches):
        batches = batches.batches
    return next((part for part in (batches, getattr(batches, 'sampler', None), getattr(loader, 'sampler', None))
                 if type(getattr(part, 'seed', None)) is int), None)
