"""What the libraries' own tests expect of their backbones, of every family, grown and not: the parent is asked too.

Shapes, ``out_indices``, frozen stages, other sizes of images, modes, initialisation.
"""
import copy

import pytest
import torch
from families import FAMILIES, build_family, family_image
from parents import flatten
from torch import nn

import mmscalenet
from mmscalenet.models.backbones.scalenet import arguments_of

#: Parents that are built for one size of images.
OF_ONE_SIZE = ('mmpretrain-beit', 'mmpretrain-eva02', 'mmpretrain-mixer', 'mmseg-beit', 'mmseg-mae')
every_family = pytest.mark.parametrize('name', FAMILIES)
every_scale = pytest.mark.parametrize('scale', [pytest.param(1, marks=pytest.mark.slow), 2])


def arguments(name: str) -> dict:
    return arguments_of(FAMILIES[name][0])


def fresh(name: str, scale: int, **changes) -> nn.Module:
    """Grown with closed gates, or not grown: given the parent's weights it computes what the parent does."""
    parent, given = FAMILIES[name]
    options = dict(adapter=None) if scale == 1 else dict(gate=0., layer_map='interleaved')
    return mmscalenet.ScaleNet(base=f'{name.split("-")[0]}.{parent.__name__}', scale=scale,
                               **copy.deepcopy({**given, **changes}), **options)


def build(name: str, scale: int, **changes) -> nn.Module:
    """With the parent's random weights."""
    ours = fresh(name, scale, **changes)
    assert not ours.load_state_dict(build_family(name, **changes).state_dict(), strict=False).unexpected_keys
    return ours


def pair(name: str, scale: int, **changes) -> tuple[nn.Module, nn.Module]:
    return build_family(name, **copy.deepcopy(changes)), build(name, scale, **changes)


def shapes(outputs: object) -> list[tuple]:
    return [(tuple(output.shape), output.dtype) for output in flatten(outputs)]


def run(model: nn.Module, image: torch.Tensor, training: bool = False) -> object:
    """The outputs, or what was raised."""
    model.train(training)
    try:
        return flatten(model(image))
    except Exception as error:
        return type(error)


def flags(model: nn.Module, parts: list[str], what: str) -> dict[str, bool]:
    """Mode of the modules, or what is trained of the parameters, of the parts of the parent's names."""
    if what == 'training':
        return {name: module.training for name, module in model.named_modules() if name in parts}
    return {name: parameter.requires_grad for name, parameter in model.named_parameters() if name in parts}


@every_family
@every_scale
@pytest.mark.parametrize('training', [False, True])
def test_shapes(name, scale, training):
    theirs, ours = (run(model, family_image(name), training) for model in pair(name, scale))
    assert shapes(ours) == shapes(theirs)


@every_family
@every_scale
def test_sizes_of_images(name, scale):
    """The same at every size that the parent takes; what it does not take is not taken."""
    side = family_image(name).shape[-1]
    theirs, ours = pair(name, scale)
    taken = 0
    for height, width in ((side, 2 * side), (2 * side, side), (side + 32, side + 32), (side + 3, side - 5)):
        image = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(height))
        expected, actual = run(theirs, image), run(ours, image)
        if isinstance(expected, type):
            assert actual is expected, (height, width)
        else:
            taken += 1
            assert all(map(torch.equal, actual, expected)), (height, width)
    assert taken or name in OF_ONE_SIZE, 'none of the sizes can be run'


@every_family
@every_scale
def test_every_output(name, scale):
    """``out_indices`` and ``out_scales`` mean what they do in the parent."""
    key = next((key for key in ('out_indices', 'out_scales') if key in arguments(name)), None)
    if key is None:
        pytest.skip('the parent has one output')
    tried = 0
    for index in (-4, -1, 0, 1, 2, 3, 5):  # the mixer takes those from the end alone
        try:
            theirs = build_family(name, **{key: [index]})
            expected = run(theirs, family_image(name))
        except Exception:
            expected = None
        if expected is None or isinstance(expected, type) or not expected:
            continue
        ours = build(name, scale, **{key: [index]})
        assert all(map(torch.equal, run(ours, family_image(name)), expected)), index
        tried += 1
    assert tried > 1


@every_family
@every_scale
def test_frozen_stages(name, scale):
    """The same weights are frozen, and the same modules stay in eval mode; or it is refused by name."""
    if 'frozen_stages' not in arguments(name):
        pytest.skip('the parent freezes nothing')
    for frozen in (-1, 0, 1, 2):
        try:
            theirs = build_family(name, frozen_stages=frozen)
            theirs.train()
        except AttributeError:  # HorNet and HiViT look for a norm that they do not have
            assert frozen > 0
            continue
        try:
            ours = build(name, scale, frozen_stages=frozen)
        except ValueError as error:
            assert frozen >= 0 and f'frozen_stages={frozen} is not possible' in str(error)
            continue
        ours.train()
        parts = [part for part, _ in theirs.named_parameters()]
        expected = flags(theirs, parts, 'requires_grad')
        if name == 'mmpretrain-eva02':  # the parent freezes layers that it replaces afterwards
            expected |= {part: False for part in parts if part.startswith(tuple(f'layers.{i}.' for i in range(frozen)))}
        assert flags(ours, parts, 'requires_grad') == expected, frozen


@every_family
@every_scale
def test_modes(name, scale):
    """Also with norms that are kept in eval mode."""
    for changes in [{}] + [dict(norm_eval=True)] * ('norm_eval' in arguments(name)):
        theirs, ours = pair(name, scale, **changes)
        parts = [part for part, module in theirs.named_modules() if part and part in dict(ours.named_modules())]
        assert len(parts) > 20
        for training in (True, False):
            theirs.train(training)
            ours.train(training)
            assert flags(ours, parts, 'training') == flags(theirs, parts, 'training')


@every_family
@every_scale
def test_initialisation(name, scale):
    """Every weight of the parent's starts from the distribution that the parent draws it from."""
    states = []
    parent, given = FAMILIES[name]
    for model in parent(**copy.deepcopy(given)), fresh(name, scale):
        model.init_weights()
        states.append(model.state_dict())
    for key, theirs in states[0].items():
        ours = states[1][key]
        if not theirs.is_floating_point() or theirs.numel() == 1 or theirs.std() == 0:
            assert torch.equal(ours, theirs), key
        elif theirs.numel() < 64:
            assert 0.2 < ours.std() / theirs.std() < 5, key
        else:
            size = theirs.numel()**-0.5
            assert ours.std() == pytest.approx(theirs.std().item(), rel=5 * size + 0.02), key
            assert abs(ours.mean() - theirs.mean()) < 6 * size * theirs.std(), key
