"""What holds for DeiT and Swin holds for every other family that can be expanded."""
import copy
import pickle
from types import SimpleNamespace

import pytest
import torch
from families import FAMILIES, VIT, build_family, deeper, family_image, outputs_of
from mmengine.analysis import get_model_complexity_info
from mmengine.utils import digit_version
from mmpretrain.models import (
    TNT,
    BEiTPretrainViT,
    ConvNeXt,
    EfficientFormer,
    MixMIMTransformer,
    MobileViT,
    MoCoV3ViT,
    ResNet,
    RevVisionTransformer,
    SparseConvNeXt,
    iTPNHiViT,
)
from mmpretrain.models.utils import SparseHelper
from parents import DEIT_ARCH, flatten, randomise
from torch import nn

import mmscalenet
from mmscalenet.expansion import position_lists
from mmscalenet.expansion.blocks import BLOCKS, Branches, batch_norms_of, norms_of
from mmscalenet.expansion.families import runs_once

every_family = pytest.mark.parametrize('name', FAMILIES)
#: With several runs in a list.
WITH_RUNS = ('mmpretrain-mvit', 'mmpretrain-mvit-late-dims', 'mmpretrain-hivit', 'mmdet-pvt')


def assert_equal(ours: object, theirs: object) -> None:
    ours, theirs = flatten(ours), flatten(theirs)
    assert len(ours) == len(theirs) > 0
    for a, b in zip(ours, theirs, strict=True):
        assert torch.isfinite(a).all()
        assert torch.equal(a, b), (a - b).abs().max()


def assert_close(ours: object, theirs: object) -> None:
    for a, b in zip(flatten(ours), flatten(theirs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * b.abs().max().item())


def grown(name: str, moved: bool = True, **options) -> nn.Module:
    """Expanded, and with what positions own at random values, as after training."""
    model = mmscalenet.expand(build_family(name), **options)
    for positions in position_lists(model).values():
        if moved:
            randomise(positions.positions, seed=3)
    return model


@every_family
@pytest.mark.parametrize('training', [False, True])
def test_scale_1_without_adapters_is_the_parent_bit_for_bit(name, training):
    parent = build_family(name)
    ours = mmscalenet.expand(copy.deepcopy(parent), scale=1, adapter=None)
    assert list(ours.state_dict()) == list(parent.state_dict())
    outputs = []
    for model in (ours, parent):
        model.train(training)
        torch.manual_seed(5)
        outputs.append(model(family_image(name)))
    assert_equal(*outputs)
    for a, b in zip(ours.buffers(), parent.buffers(), strict=True):  # statistics of batch norms, too
        assert torch.equal(a, b)


@every_family
@pytest.mark.parametrize('layer_map', ['interleaved', 'cyclic', 'middle_cycle'])
def test_closed_gates_give_the_base_bit_for_bit(name, layer_map):
    parent = build_family(name)
    ours = mmscalenet.expand(copy.deepcopy(parent), layer_map=layer_map, gate=0)
    # the taps of the other maps come after further blocks
    last = slice(None) if layer_map == 'interleaved' else slice(-1, None)
    assert_equal(flatten(outputs_of(ours, name))[last], flatten(outputs_of(parent, name))[last])


@every_family
def test_no_tensor_twice_and_every_parameter_counted(name):
    parent, ours = build_family(name), grown(name, gate=0)
    names = [key for key, _ in ours.named_parameters(remove_duplicate=False)]
    assert len(names) == len(dict(ours.named_parameters()))
    own = [parameter for positions in position_lists(ours).values() for parameter in positions.positions.parameters()]
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in [*parent.parameters(), *own])
    expected = 0
    for positions in position_lists(ours).values():
        for position, added in zip(positions.positions, positions.added, strict=True):
            block = position.block
            once, width = runs_once(block), None if position.adapter is None else position.adapter.up.out_features
            assert (position.adapter is None) == once
            expected += 0 if once else 2 * width * round(5 / 12 * width)
            expected += added * (2 + sum(w.numel() for norm in batch_norms_of(block)
                                         for w in block.get_submodule(norm).parameters()))
    assert sum(p.numel() for p in own) == expected


@pytest.mark.parametrize('name', [name for name in FAMILIES if name not in WITH_RUNS])
@pytest.mark.parametrize('training', [False, True])
def test_twice_the_depth_is_the_parent_of_twice_the_depth(name, training):
    """The library's own deeper net, given each block's weights twice."""
    rates = {'drop_path_rate': 0.} if 'drop_path_rate' in FAMILIES[name][1] else {}
    ours = mmscalenet.expand(build_family(name, **rates), adapter=None)
    theirs = deeper(name, **rates)
    state = ours.state_dict()
    unrolled = {key: value for key, value in state.items() if '.positions.' not in key}
    for list_name, positions in position_lists(ours).items():
        for key in [key for key in unrolled if key.startswith(f'{list_name}.')]:
            del unrolled[key]
        for p, block in enumerate(positions.layer_map):
            start = f'{list_name}.{block}.'
            unrolled |= {f'{list_name}.{p}.{key.removeprefix(start)}': value for key, value in state.items()
                         if key.startswith(start)}
    missing, unexpected = theirs.load_state_dict(unrolled, strict=False)
    # Swin V2 drops the tables of its windows from every file, and has made them by itself
    assert not unexpected and not [key for key in missing if 'relative_' not in key]
    assert_close(outputs_of(ours, name, training), outputs_of(theirs, name, training))


# XCiT's list is one of torch's and leaves the convolutions in its blocks as they are built; ours draws them again
@pytest.mark.parametrize('name', [name for name in FAMILIES if name != 'mmpretrain-xcit'])
def test_weights_start_as_the_base_starts_them(name):
    base, ours = build_family(name), mmscalenet.expand(build_family(name))
    ours.set_depth(ours.runnable_depths()[1])
    depths = ours.active_depth
    assert_started_alike(ours, base)
    assert ours.active_depth == depths


def test_a_parent_that_takes_every_linear_to_have_a_bias():
    base = MoCoV3ViT(**VIT)
    assert_started_alike(mmscalenet.expand(copy.deepcopy(base)), base)


@pytest.mark.parametrize('layer_map', ['interleaved', [3, 0, 1, 2, 3, 0]])
def test_weights_that_are_scaled_by_layer_are_scaled_once(layer_map):
    """Each block's as those of the layer that it is in the base, wherever it runs."""
    base = BEiTPretrainViT(**VIT)
    assert_started_alike(mmscalenet.expand(copy.deepcopy(base), adapter=None, layer_map=layer_map), base)


def assert_started_alike(ours: nn.Module, base: nn.Module) -> None:
    for model in (base, ours):
        torch.manual_seed(5)
        model.init_weights()
    state = ours.state_dict()
    assert not [key for key, value in base.state_dict().items() if not torch.equal(state[key], value)]


@every_family
def test_training_reaches_all_that_positions_own(name):
    model = grown(name, gate=0.5, unshare='norms' if all_norms_known(name) else None)
    sum(out.square().mean() for out in flatten(outputs_of(model, name, training=True))).backward()
    missing = [key for key, parameter in model.named_parameters() if '.positions.' in key and parameter.grad is None]
    assert not missing


def all_norms_known(name: str) -> bool:
    lists = position_lists(mmscalenet.expand(build_family(name), scale=1)).values()
    return all(norms_of(block) for positions in lists for block in positions.blocks if not runs_once(block))


@every_family
def test_recomputed_steps_are_the_same(name):
    """With drop path, and with batch norms, whose statistics a second pass would move a second time."""
    steps = []
    for with_cp in (False, True):
        model = grown(name, gate=0.5, with_cp=with_cp)
        torch.manual_seed(3)
        outputs = flatten(outputs_of(model, name, training=True))
        sum(out.square().mean() for out in outputs).backward()
        steps.append([*outputs, *(p.grad for p in model.parameters() if p.grad is not None)])
    assert_close(*steps)


@pytest.mark.parametrize('adapter', [None, dict(type='ParallelAdapter')], ids=str)
@pytest.mark.parametrize('name, arguments', [
    ('mmpretrain-mixer', {}), ('mmpretrain-davit', {}),
    ('mmpretrain-swin-v2', dict(arch=dict(embed_dims=8, depths=[2, 2, 4, 2], num_heads=[1, 2, 2, 4],
                                          extra_norm_every_n_blocks=2)))], ids=str)
def test_a_gate_drops_nothing_more(name, arguments, adapter):
    """An open one, with blocks that run whole and have a drop path in them."""
    outputs = []
    for gate in (None, 1.):
        model = mmscalenet.expand(build_family(name, **arguments), gate=gate, adapter=adapter, drop_path_rate=0.5)
        for positions in position_lists(model).values():
            for position in positions.positions:
                if adapter is not None:
                    randomise(position.adapter, seed=3)
        torch.manual_seed(3)
        outputs.append(outputs_of(model, name, training=True))
    assert_close(*outputs)


@every_family
def test_deployed_nets_compute_the_same(name):
    model = grown(name, gate=0.5)
    expected = outputs_of(model, name)
    model.switch_to_deploy()
    assert_close(model(family_image(name)), expected)


@every_family
def test_a_smaller_depth_is_a_net_of_that_depth(name):
    """To the base's, which is the base."""
    model = grown(name, moved=False, gate=0.5, adapter=None)
    full = outputs_of(model, name)
    model.set_depth(model.runnable_depths()[0])
    assert_equal(outputs_of(model, name), outputs_of(build_family(name), name))
    model.set_depth(model.runnable_depths()[-1])
    assert_equal(outputs_of(model, name), full)


@pytest.mark.parametrize('name, options', [
    ('mmpretrain-xcit', {}), ('mmseg-mscan', {}), ('mmpretrain-beit', dict(unshare='norms')),
    ('mmpretrain-beit', dict(adapter=dict(type='LoRA'))), ('mmseg-mit', dict(adapter=dict(type='LoRA')))], ids=str)
def test_what_looks_at_a_net_by_tracing_it(name, options):
    """Also where a position puts tensors of its own in the place of the block's."""
    model, image = grown(name, **options).eval(), family_image(name)
    assert_equal(torch.jit.trace(model, image, strict=False, check_trace=False)(image), model(image))
    counted = get_model_complexity_info(model, inputs=(image, ), show_table=False, show_arch=False)
    assert counted['params'] == sum(weight.numel() for weight in model.parameters())


@every_family
def test_it_runs_at_every_depth(name):
    """With as many outputs, of the same shapes."""
    model = grown(name)
    shapes = [out.shape for out in flatten(outputs_of(model, name))]
    for depth in model.runnable_depths():
        model.set_depth(depth)
        assert [out.shape for out in flatten(outputs_of(model, name))] == shapes


@pytest.mark.parametrize('layer_map', ['interleaved', 'cyclic', 'middle_cycle'])
def test_a_stage_of_pvt_with_one_block(layer_map):
    """With the embedding before it, it is no pair of blocks that take turns."""
    base = build_family('mmdet-pvt', num_layers=[1, 1, 2, 1])
    model = mmscalenet.expand(copy.deepcopy(base), layer_map=layer_map, gate=0)
    assert [positions.layer_map for positions in position_lists(model).values()][0] == [0, 1, 1]
    for depth in model.runnable_depths():
        model.set_depth(depth)
        assert_equal(outputs_of(model, 'mmdet-pvt'), outputs_of(base, 'mmdet-pvt'))


@every_family
def test_copies_and_pickles_compute_the_same(name):
    model = grown(name)
    expected = outputs_of(model, name)
    assert_equal(outputs_of(copy.deepcopy(model), name), expected)
    assert_equal(outputs_of(pickle.loads(pickle.dumps(model)), name), expected)
    unshared, shared = (mmscalenet.expand(build_family(name), share=share, adapter=None) for share in (False, True))
    assert_equal(outputs_of(unshared, name), outputs_of(shared, name))


@pytest.mark.parametrize('name', [name for name in FAMILIES if 'convnext' not in name])
def test_layer_decay_counts_blocks_in_order(name):
    model = grown(name)
    depths = {key: model.get_layer_depth(key) for key, _ in model.named_parameters()}
    before = 0
    for list_name, positions in position_lists(model).items():
        for i in range(positions.num_blocks):
            of_block = {depths[key][0] for key in depths if key.startswith(f'{list_name}.{i}.')}
            assert of_block <= {before + i + 1}
        before += positions.num_blocks
    assert {total for _, total in depths.values()} == {before + 2}
    assert all(0 <= depth < total for depth, total in depths.values())
    if len(position_lists(model)) > 1:  # what leads to a stage is no deeper than the stage before it
        second = next(iter(position_lists(model).values())).num_blocks
        between = [key for key in depths if not key.startswith(tuple(f'{name}.' for name in position_lists(model)))]
        stems = [key for key in between if key.startswith(('downsample_layers.1.', 'patch_embeds.1.', 'patch_embed2.',
                                                          'network.1.', 'layers.1.0.', 'stages.0.downsample.'))]
        assert {depths[key][0] for key in stems} <= {second}


@pytest.mark.parametrize('name', [name for name in FAMILIES if 'convnext' not in name and name not in WITH_RUNS])
def test_layer_decay_of_copies_is_that_of_the_base(name):
    """At the same relative depth: that of block i for those that run as 2 i and 2 i + 1."""
    shared, ours = (mmscalenet.expand(build_family(name), share=share) for share in (True, False))
    lists = position_lists(ours)
    for list_name, positions in lists.items():
        for p in range(len(positions.layer_map)):
            for key, _ in positions.block_of(p).named_parameters():
                assert ours.get_layer_depth(f'{list_name}.{p}.{key}') == \
                    shared.get_layer_depth(f'{list_name}.{p // 2}.{key}')
    for key, _ in shared.named_parameters():
        if not key.startswith(tuple(f'{list_name}.' for list_name in lists)):
            assert ours.get_layer_depth(key) == shared.get_layer_depth(key), key
    assert ours.get_layer_depth('head.weight', 'backbone.') == shared.get_layer_depth('head.weight', 'backbone.')


@pytest.mark.parametrize('share', [True, False])
@pytest.mark.parametrize('depths', [[3, 3, 9, 3], [3, 3, 27, 3]])
def test_layer_decay_of_convnext_is_its_own(share, depths):
    """That of tiny, and of small, which makes one depth of three blocks of the third stage."""
    base = ConvNeXt(arch=dict(depths=depths, channels=[4, 8, 16, 32]))
    model = mmscalenet.expand(copy.deepcopy(base), layer_map='interleaved', share=share)
    names, prefix = {name for name, _ in model.named_parameters()}, 'backbone.'
    for key in [key for key, _ in base.named_parameters()]:
        expected = base.get_layer_depth(f'{prefix}{key}', prefix)
        copies = {key}
        if not share and key.startswith('stages.'):
            _, stage, number, *rest = key.split('.')
            copies = {'.'.join(['stages', stage, str(2 * int(number) + i), *rest]) for i in (0, 1)}
        assert copies <= names
        assert {model.get_layer_depth(f'{prefix}{name}', prefix) for name in copies} == {expected}, key
    for name in [name for name in names if '.positions.' in name]:  # 2 i and 2 i + 1 run block i
        _, stage, _, number, *_ = name.split('.')
        assert model.get_layer_depth(name) == base.get_layer_depth(f'stages.{stage}.{int(number) // 2}.gamma'), name
    assert model.get_layer_depth('head.weight', prefix) == base.get_layer_depth('head.weight', prefix)


@pytest.mark.skipif(digit_version(torch.__version__) < digit_version('2.2'), reason='its compiler refuses the loop')
@pytest.mark.parametrize('name', [
    'mmpretrain-convnext', 'mmpretrain-beit',
    *(pytest.param(name, marks=pytest.mark.slow) for name in ('mmseg-mit', 'mmseg-mscan'))])
def test_the_graph_is_whole(name, fresh_compiler):
    """One graph under torch.compile, though hooks tell the block which position runs it."""
    model = grown(name)
    expected = outputs_of(model, name)
    assert_close(torch.compile(model, backend='eager', fullgraph=True)(family_image(name)), expected)


@pytest.mark.parametrize('name, options', [
    ('mmpretrain-convnext', {}), ('mmpretrain-beit', dict(adapter=dict(type='LoRA'))),
    ('mmpretrain-beit', dict(with_cp='light'))], ids=str)
def test_a_torch_that_cannot_tell_whether_it_compiles(name, options, monkeypatch):
    """As torch 2.1, whose own modules do not ask; this one's do."""
    model = grown(name, **options)
    expected = outputs_of(model, name)
    its_own = SimpleNamespace(**vars(torch) | dict(compiler=SimpleNamespace(is_compiling=lambda: False)))
    monkeypatch.setattr(nn.modules.module, 'torch', its_own)
    monkeypatch.delattr(torch.compiler, 'is_compiling', raising=False)
    assert_equal(outputs_of(model, name), expected)


def test_batch_norms_keep_the_statistics_of_their_use():
    model = grown('mmseg-mscan', moved=False, gate=0.5)
    for _ in range(2):
        outputs_of(model, 'mmseg-mscan', training=True)
    positions = model.block1.positions
    own, shared = positions[2].own_norms()['norm1'], model.block1.get_submodule('0').norm1
    assert own.num_batches_tracked == shared.num_batches_tracked == 2
    assert not torch.allclose(own.running_mean, shared.running_mean)


def test_own_batch_norms_start_from_those_of_a_file():
    base = build_family('mmseg-mscan')
    outputs_of(base, 'mmseg-mscan', training=True)
    model = mmscalenet.expand(build_family('mmseg-mscan'), adapter=None)
    assert not model.load_state_dict(base.state_dict(), strict=False).unexpected_keys
    own = model.block1.positions[2].own_norms()['norm1']
    assert torch.equal(own.running_mean, base.block1[0].norm1.running_mean)


def test_adapters_read_maps_with_the_channels_first():
    """They are 1x1 convolutions then: what they add at a pixel is of that pixel."""
    model = grown('mmpretrain-poolformer', scale=1).eval()
    position = getattr(model.network, '0')[0]
    h = torch.randn(1, 8, 5, 5)
    seen = []
    position.block.mlp.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    out = position(h)
    with_adapter, position.adapter = position.adapter, None
    without = position(h)
    down, up = with_adapter.down.weight[..., None, None], with_adapter.up.weight[..., None, None]
    extra = nn.functional.conv2d(with_adapter.act(nn.functional.conv2d(seen[0], down)), up)
    torch.testing.assert_close(out - without, extra, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('linear', [True, False])
def test_sparse_nets_leave_masked_places_empty(monkeypatch, linear):
    """ConvNeXt as SparK pretrains it."""
    active = torch.tensor([[1., 0.], [0., 1.]]).expand(2, 1, 2, 2)
    monkeypatch.setattr(SparseHelper, '_cur_active', active)
    base = randomise(sparse_convnext(linear_pw_conv=linear))
    image = torch.randn(2, 3, 64, 64) * active.repeat_interleave(32, 2).repeat_interleave(32, 3)
    model = mmscalenet.expand(copy.deepcopy(base), gate=0)
    assert_equal(model(image), base(image))
    for positions in position_lists(model).values():
        randomise(positions.positions, seed=3)
    for out, same_as_before in zip(model(image), base(image), strict=True):
        side = out.shape[2] // 2
        masked = active.repeat_interleave(side, 2).repeat_interleave(side, 3).expand_as(out) == 0
        assert not out[masked].any() and not torch.isclose(out, same_as_before)[~masked].all()


def sparse_convnext(**kwargs) -> nn.Module:
    return SparseConvNeXt(arch=dict(depths=[2, 2, 2, 2], channels=[8, 8, 16, 16]), out_indices=[0, 3],
                          gap_before_output=False, **kwargs)


@pytest.mark.parametrize('parent, reason', [
    (lambda: MixMIMTransformer(arch=dict(embed_dims=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1])), 'are stages'),
    (lambda: TNT(arch=dict(embed_dims_outer=16, embed_dims_inner=8, num_layers=2, num_heads_outer=2,
                           num_heads_inner=2), img_size=32), 'two kinds of tokens'),
    (lambda: RevVisionTransformer(arch=DEIT_ARCH, img_size=32, patch_size=8), 'inverts every block'),
    (lambda: EfficientFormer(arch='l1'), 'maps and of tokens'),
    (lambda: MobileViT(arch='xx_small'), 'are stages'),
    (lambda: iTPNHiViT(arch=dict(embed_dims=32, depths=[1, 1, 2], num_heads=2), img_size=32, patch_size=8,
                       inner_patches=4), 'finds positions'),
    (lambda: ResNet(18), 'neither in `layers`'),
])
def test_what_cannot_run_is_refused_before_it_is_changed(parent, reason):
    model = parent()
    before = type(model), list(model.state_dict())
    with pytest.raises(TypeError, match=f'cannot expand a {type(model).__name__}: .*{reason}'):
        mmscalenet.expand(model)
    assert (type(model), list(model.state_dict())) == before


@pytest.mark.parametrize('name, options, message', [
    ('mmpretrain-mvit', dict(layer_map=[0, 1, 2, 0, 1, 2, 3, 4, 5, 6]), 'leaves a size and comes back to it'),
    ('mmpretrain-mvit', dict(layer_map=[0, 1, 1, 2, 3, 4, 5, 6]), 'runs block 1 again'),
    ('mmpretrain-mvit', dict(inject=True), 'inject=True is not possible for blocks'),
    ('mmpretrain-hivit', dict(layer_map=[0, 1, 0, 1, 0, 1, *range(2, 14)]), 'at depth 16 block 7 of the main ones'),
    ('mmpretrain-poolformer', dict(adapter=dict(type='LoRA')), 'LoRA finds no matrix in a PoolFormerBlock'),
    ('mmpretrain-davit', dict(unshare='norms'), "unshare='norms' is not possible for a DaViTBlock"),
])
def test_options_that_a_family_cannot_take(name, options, message):
    model = build_family(name)
    before = type(model), list(model.state_dict())
    with pytest.raises(ValueError, match=message):
        mmscalenet.expand(model, **options)
    assert (type(model), list(model.state_dict())) == before


def test_every_described_block_is_tried():
    """Those that positions run themselves are with DeiT and Swin."""
    tried = {f'{c.__module__}.{c.__qualname__}' for net in [*map(build_family, FAMILIES), sparse_convnext()]
             for module in net.modules() for c in type(module).__mro__}
    assert not [name for name, kind in BLOCKS.items() if isinstance(kind, Branches) and name not in tried]
