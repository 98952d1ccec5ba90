"""Every source into every target: the target computes what the source model itself computes."""
import pytest
import torch
from checkpoint_zoo import SOURCES, TAKERS, TARGETS, maps, randomise

import mmscalenet
from mmscalenet.checkpoints import load_pretrained

CASES = [(source, target) for source, (family, *_) in SOURCES.items() for target in TAKERS[family]]
LEGACY = [case for case in CASES if case[0] in ('official_swin', 'timm_distilled', 'timm_deit')]
BUFFERS = ('attn_mask', 'relative_position_index')


@pytest.mark.parametrize('source, target, zipped',
                         [(*case, True) for case in CASES] + [(*case, False) for case in LEGACY])
def test_output_equals_the_source(source, target, zipped, tmp_path):
    family, make, heads = SOURCES[source]
    file, expected = make()
    path = str(tmp_path / 'checkpoint.pth')
    torch.save(file, path, _use_new_zipfile_serialization=zipped)
    backbone = randomise(TARGETS[target](**TAKERS[family][target]), seed=1)

    report = load_pretrained(backbone, path)

    out = maps(backbone, 'swin' if family == 'swin' else 'vit')
    for value, wanted in zip(out[-len(expected):], expected, strict=True):
        assert wanted.std() > .1
        torch.testing.assert_close(value, wanted, atol=1e-5, rtol=1e-5)

    # every tensor is used but heads and buffers; the model gets every tensor but norms of outputs the file has not
    tensors = file.get('state_dict', file.get('model', file))
    if heads is None:
        heads = {name for name in tensors if not name.startswith('backbone.')}
        assert heads
    assert {name for name in report.ignored if not name.endswith(BUFFERS)} == heads
    assert len(report.loaded) == len(tensors) - len(report.ignored)
    classification = source in ('timm_swin', 'official_swin', 'early_mmpretrain_swin')
    assert report.newly_initialised == [
        f'norm{i}.{kind}' for i in (0, 1) for kind in ('weight', 'bias') if classification]
    assert not report.resized


@pytest.mark.parametrize('source, target', CASES)
def test_expanded_runs_the_blocks_of_the_base(source, target):
    """With a closed gate the expanded backbone computes what the source computes."""
    family, make, _ = SOURCES[source]
    file, expected = make()
    backbone = mmscalenet.expand(TARGETS[target](**TAKERS[family][target]), scale=2, gate=0.)
    randomise_base(backbone)

    report = load_pretrained(backbone, file)

    out = maps(backbone, 'swin' if family == 'swin' else 'vit')
    for value, wanted in zip(out[-len(expected):], expected, strict=True):
        torch.testing.assert_close(value, wanted, atol=1e-5, rtol=1e-5)
    assert {name for name, _ in backbone.named_parameters() if '.positions.' in name} == {
        name for name in report.newly_initialised if '.positions.' in name}


def randomise_base(backbone):
    own = {name: value.clone() for name, value in backbone.state_dict().items() if '.positions.' in name}
    randomise(backbone, seed=1).load_state_dict(own, strict=False)
