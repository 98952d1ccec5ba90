"""Damaged files of every layout: a file is right or refused, in one line, and the model is then as it was.

Formats with checksums (the zip file of torch.save) have to notice every change of a weight. The others cannot: torch's
format before 1.6 and safetensors; there a change of a number that leaves it finite is loaded, and counted.

    python -m pytest tests/test_checkpoints/test_mutations.py -m slow -s    # prints the counts
"""
import random
from collections import Counter
from pathlib import Path

import pytest
import torch
from checkpoint_zoo import SOURCES, TAKERS, TARGETS, randomise

from mmscalenet.checkpoints import CheckpointError, load_pretrained
from mmscalenet.checkpoints.formats import state_dict_in

CONTAINERS = ('zip', 'legacy', 'safetensors')


def write(content: dict, container: str, folder: Path) -> Path:
    if container == 'safetensors':
        from safetensors.torch import save_file
        tensors = {name: value.clone() for name, value in state_dict_in(content).items()
                   if isinstance(value, torch.Tensor)}
        save_file(tensors, folder / 'file.safetensors')
        return folder / 'file.safetensors'
    torch.save(content, folder / 'file.pth', _use_new_zipfile_serialization=container == 'zip')
    return folder / 'file.pth'


def mutate(whole: bytes, rng: random.Random) -> tuple[str, bytes]:
    """A kind of damage that disks, networks and people do, and the file with it."""
    start = rng.randrange(len(whole))
    length = rng.choice([1, 16, 512, 4096])
    kind = rng.choice(['bit', 'bit', 'zeros', 'noise', 'cut', 'lost', 'twice', 'appended'])
    data = bytearray(whole)
    if kind == 'bit':
        data[start] ^= 1 << rng.randrange(8)
    elif kind == 'zeros':
        data[start:start + length] = bytes(len(data[start:start + length]))
    elif kind == 'noise':
        data[start:start + length] = rng.randbytes(len(data[start:start + length]))
    elif kind == 'cut':
        del data[start:]
    elif kind == 'lost':
        del data[start:start + length]
    elif kind == 'twice':
        data[start:start] = data[start:start + length]
    else:
        data += rng.randbytes(length)
    return kind, bytes(data)


def outcome(path: Path, model: torch.nn.Module, expected: dict) -> str:
    """'refused', 'right' or 'other'."""
    randomise(model, seed=1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    try:
        load_pretrained(model, path)
    except CheckpointError as error:
        message = str(error)
        assert str(path) in message and message.isprintable() and len(message) < 3000
        assert all(value.equal(before[name]) for name, value in model.state_dict().items()), 'half a model'
        return 'refused'
    return 'right' if all(value.equal(expected[name]) for name, value in model.state_dict().items()) else 'other'


@pytest.mark.parametrize('container', CONTAINERS)
@pytest.mark.parametrize('rounds', [1, pytest.param(30, marks=pytest.mark.slow)])
def test_damage(container, rounds, tmp_path):
    rng, counts = random.Random(0), Counter()
    for source, (family, make, _) in SOURCES.items():
        content, _ = make()
        path = write(content, container, tmp_path)
        target = next(iter(TAKERS[family]))
        model = randomise(TARGETS[target](**TAKERS[family][target]), seed=1)
        load_pretrained(model, path)
        expected = {name: value.clone() for name, value in model.state_dict().items()}
        whole = path.read_bytes()
        for _ in range(rounds):
            kind, damaged = mutate(whole, rng)
            path.write_bytes(damaged)
            found = 'right' if damaged == whole else outcome(path, model, expected)
            counts[kind, found] += 1
            assert found != 'other' or container != 'zip', (source, kind)
        path.write_bytes(whole)
        assert outcome(path, model, expected) == 'right'
    print(f'\n{container}: {sum(counts.values())} files; ' + ', '.join(
        f'{kind} {found} {number}' for (kind, found), number in sorted(counts.items())))
