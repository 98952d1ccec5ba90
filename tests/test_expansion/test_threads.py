"""Several threads may run one net, though positions change the blocks that they share."""
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from families import build_family
from parents import build_parent, flatten, image, randomise

import mmscalenet


@pytest.fixture
def often(monkeypatch):
    """Threads take turns so often that they meet within a block."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize('parent, options', [
    ('mmpretrain-vit', dict(adapter=dict(type='LoRA', rank=2))), ('mmpretrain-convnext', {}), ('mmseg-mscan', {})])
def test_two_threads_get_what_one_gets(parent, options, often):
    build = build_family if 'vit' not in parent else build_parent
    net = randomise(mmscalenet.expand(build(parent), **options)).eval()
    weights = {name: value.clone() for name, value in net.state_dict().items()}
    images = [image(), image() + 1]

    @torch.no_grad()
    def run(x: torch.Tensor) -> list[torch.Tensor]:
        return flatten(net(x))

    expected = [run(x) for x in images]
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(run, images[number % 2]) for number in range(40)]
    for number, outputs in enumerate(runs):
        assert all(map(torch.equal, outputs.result(), expected[number % 2]))
    assert all(value.equal(weights[name]) for name, value in net.state_dict().items())
