"""Promises of the method, for every parent class and every layer map."""
import copy
import pickle
import re
from collections import Counter

import pytest
import torch
from families import build_family, family_image
from mmcv.cnn.bricks import DropPath
from mmengine.model import BaseModule
from mmengine.runner.checkpoint import load_state_dict
from mmpretrain.models import BEiTPretrainViT
from parents import DEIT_ARCH, PARENTS, SWIN_ARCH, build_parent, build_scalenet, copy_base, flatten, image, randomise

import mmscalenet
from mmscalenet.expansion import LAYER_MAPS, LoRA, layer_table, position_lists

every_parent = pytest.mark.parametrize('name', PARENTS)
every_map = pytest.mark.parametrize('layer_map', [*LAYER_MAPS, 'listed'])
#: Depth -> a map with later uses in an order that no named one has.
LISTED = {2: [0, 1, 0, 1, 0, 1], 4: [0, 1, 0, 1, 2, 3, 0, 3]}


def assert_equal(a, b):
    a, b = flatten(a), flatten(b)
    assert len(a) == len(b)
    for left, right in zip(a, b, strict=True):
        assert torch.equal(left, right), (left - right).abs().max()


def moved(model):
    """Give what positions own random values, as training does."""
    for positions in position_lists(model).values():
        randomise(positions.positions, seed=3)
    return model


def listed(layer_map, name):
    """What ``layer_map`` stands for: an explicit list for 'listed', one a stage for Swin."""
    if layer_map != 'listed':
        return layer_map
    return [LISTED[depth] for depth in SWIN_ARCH['depths']] if 'swin' in name else LISTED[DEIT_ARCH['num_layers']]


@every_parent
@every_map
@pytest.mark.parametrize('training', [False, True])
def test_scale_1_without_adapters_is_the_parent_bit_for_bit(name, training, layer_map):
    parent = build_parent(name, drop_path_rate=0.3)
    if layer_map == 'listed':
        layer_map = [list(range(depth)) for depth in SWIN_ARCH['depths']] if 'swin' in name else [0, 1, 2, 3]
    ours = mmscalenet.expand(copy.deepcopy(parent), scale=1, layer_map=layer_map, adapter=None)
    parent.train(training)
    ours.train(training)
    torch.manual_seed(5)
    expected = parent(image())
    torch.manual_seed(5)
    assert_equal(ours(image()), expected)


@every_parent
@every_map
@pytest.mark.parametrize('adapter', [None, dict(type='ParallelAdapter'), dict(type='LoRA', rank=2)])
def test_gate_0_is_the_unexpanded_model_bit_for_bit(name, layer_map, adapter):
    parent = build_parent(name)
    parent.eval()
    ours = mmscalenet.expand(copy.deepcopy(parent), layer_map=listed(layer_map, name), adapter=adapter, gate=0).eval()
    assert_equal(ours(image()), parent(image()))


@every_map
@pytest.mark.parametrize('scale', [1.5, 2])
def test_gate_0_keeps_every_tap_or_warns_of_those_it_does_not(layer_map, scale, logged):
    parent = build_parent('mmpretrain-vit', out_indices=[0, 1, 3])
    parent.eval()
    ours = mmscalenet.expand(copy.deepcopy(parent), scale=scale, layer_map=listed(layer_map, 'vit'), gate=0).eval()
    lossy = [tap for tap, a, b in zip(ours.out_indices, ours(image()), parent(image()), strict=True)
             if not torch.equal(a, b)]
    assert ours.out_indices[-1] not in lossy and (layer_map == 'interleaved') == (not lossy)
    assert len(logged) == bool(lossy)
    assert not lossy or f'gate=0: the outputs at positions {lossy} do not start' in logged[0]


@every_parent
@every_map
@pytest.mark.parametrize('scale', [1.5, 2, 3])
def test_expanded_equals_the_blocks_run_one_after_another(name, layer_map, scale):
    """The reference is the parent itself with its own list of blocks repeated (aliased, which is what we avoid)."""
    parent = build_parent(name)
    layer_map = listed(layer_map, name)
    ours = mmscalenet.expand(copy.deepcopy(parent), scale=scale, layer_map=layer_map, adapter=None).eval()
    for list_name, positions in position_lists(ours).items():
        owner_name, _, attribute = list_name.rpartition('.')
        owner = parent.get_submodule(owner_name)
        blocks = getattr(owner, attribute)
        setattr(owner, attribute, torch.nn.ModuleList(blocks[b] for b in positions.layer_map))
    if hasattr(parent, 'layers'):
        parent.out_indices = ours.out_indices
    parent.eval()
    assert_equal(ours(image()), parent(image()))


@every_parent
@every_map
def test_state_dict_holds_no_tensor_twice_and_all_base_names(name, layer_map):
    parent = build_parent(name)
    names = set(parent.state_dict())
    ours = mmscalenet.expand(parent, scale=2, layer_map=listed(layer_map, name), gate=0, unshare='norms')
    state = ours.state_dict()
    assert names <= set(state)
    assert all('.positions.' in key for key in set(state) - names)
    storages = [tensor.untyped_storage().data_ptr() for tensor in state.values()]
    assert len(storages) == len(set(storages))
    assert len(list(ours.named_parameters(remove_duplicate=False))) == len(list(ours.parameters()))


@every_parent
def test_a_file_of_scale_1_is_one_of_the_base(name):
    parent = build_parent(name)
    ours = mmscalenet.expand(copy.deepcopy(parent), scale=1, adapter=None).state_dict()
    assert set(ours) == set(parent.state_dict())
    mmscalenet.expand(parent, scale=2, adapter=None).load_state_dict(ours, strict=False)


@every_parent
def test_deepcopy_and_pickle_keep_the_sharing(name):
    ours = moved(build_scalenet(name)).eval()
    expected = ours(image())
    for other in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert type(other) is type(ours)
        assert len(list(other.parameters())) == len(list(ours.parameters()))
        assert_equal(other(image()), expected)
        before = flatten(expected)[-1]
        with torch.no_grad():
            next(iter(position_lists(other).values())).block_of(0).ffn.layers[1].weight.zero_()
        assert not torch.equal(flatten(other(image()))[-1], before)
    assert_equal(ours(image()), expected)


@every_parent
def test_checkpointing_changes_neither_outputs_nor_gradients(name):
    plain = moved(build_scalenet(name)).train()
    checkpointed = build_scalenet(name, with_cp=True).train()
    checkpointed.load_state_dict(plain.state_dict())
    results = []
    for model in (plain, checkpointed):
        torch.manual_seed(7)
        outputs = model(image())
        sum(o.square().sum() for o in flatten(outputs)).backward()
        results.append((outputs, [p.grad for p in model.parameters() if p.grad is not None]))
    assert_equal(results[0][0], results[1][0])
    assert len(results[0][1]) == len(results[1][1])
    for a, b in zip(results[0][1], results[1][1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@every_parent
def test_every_parameter_gets_a_gradient_once_positions_have_moved(name):
    ours = moved(build_scalenet(name, gate=0.5, unshare='norms')).train()
    sum(o.square().sum() for o in flatten(ours(image()))).backward()
    without = [n for n, p in ours.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without in ([], ['ln1.bias'], ['dist_token']), without


@every_parent
def test_unshared_copies_start_alike_and_are_independent(name):
    parent = build_parent(name).eval()
    stacked = mmscalenet.expand(build_parent(name), scale=2, adapter=None, share=False).eval()
    shared = mmscalenet.expand(build_parent(name), scale=2, adapter=None).eval()
    assert_equal(stacked(image()), shared(image()))
    blocks = sum(p.numel() for positions in position_lists(shared).values() for b in positions.blocks
                 for p in b.parameters())
    assert sum(p.numel() for p in stacked.parameters()) == sum(p.numel() for p in shared.parameters()) + blocks
    assert parent is not stacked


@every_parent
def test_own_norms_start_as_the_blocks_and_only_added_positions_have_them(name):
    shared = mmscalenet.expand(build_parent(name), adapter=None).eval()
    own = mmscalenet.expand(build_parent(name), adapter=None, unshare='norms').eval()
    assert_equal(own(image()), shared(image()))
    for positions in position_lists(own).values():
        assert [bool(position.own_norms()) for position in positions.positions] == positions.added


@every_parent
def test_freeze_base_trains_only_what_positions_own(name):
    ours = build_scalenet(name, gate=0.1, freeze='base').train()
    trained = {n for n, p in ours.named_parameters() if p.requires_grad}
    assert trained == {n for n, _ in ours.named_parameters() if '.positions.' in n}


def test_freeze_base_keeps_the_statistics_of_batch_norms():
    """Those of the base; those of an added position are its own."""
    ours = mmscalenet.expand(build_family('mmseg-mscan'), adapter=None, freeze='base').train()
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    ours(family_image('mmseg-mscan'))
    changed = {name for name, value in ours.state_dict().items() if not value.equal(before[name])}
    assert changed == {name for name in before if '.positions.' in name and re.search('running|tracked', name)}


@every_parent
def test_drop_path_grows_linearly_over_positions(name):
    ours = build_scalenet(name, drop_path_rate=0.2)
    rates = [p.drop_path.drop_prob for positions in position_lists(ours).values() for p in positions.positions]
    torch.testing.assert_close(torch.tensor(rates), torch.linspace(0, 0.2, len(rates)))
    inside = [m for positions in position_lists(ours).values() for b in positions.blocks for m in b.modules()
              if isinstance(m, DropPath)]
    ones = torch.ones(100, 1)
    assert all(torch.equal(m.train()(ones), ones) for m in inside), 'blocks drop what positions drop already'
    assert max(m.drop_prob for m in inside) == pytest.approx(0.2), 'the rate is still to be seen'


def test_a_stage_of_one_block_has_nothing_to_alternate_with():
    arguments = dict(depths=(2, 1, 3, 1), num_heads=(1, 2, 2, 4))
    ours = build_scalenet('mmdet-swin', scale=(2, 2, 1, 3), gate=0, **arguments)
    assert [p.layer_map for p in position_lists(ours).values()] == [[0, 1, 0, 1], [0, 0], [0, 1, 2], [0, 0, 0]]
    assert len(ours.eval()(image())) == 4
    with pytest.raises(ValueError, match='stages.2.blocks: .*alternation'):
        build_scalenet('mmdet-swin', scale=2, **arguments)


def test_lora_is_a_low_rank_change_of_the_weights():
    """Against a block whose matrices were changed by hand."""
    parent = build_parent('mmpretrain-vit')
    ours = mmscalenet.expand(copy.deepcopy(parent), scale=1, adapter=dict(type=LoRA, rank=2, alpha=6)).eval()
    moved(ours)
    with torch.no_grad():
        for block, position in zip(parent.layers, ours.layers.positions, strict=True):
            assert isinstance(position.adapter, LoRA)
            for key in position.adapter.up:
                block.get_parameter(key.replace('/', '.')).add_(
                    3 * position.adapter.up[key] @ position.adapter.down[key])
    parent.eval()
    torch.testing.assert_close(ours(image())[0], parent(image())[0], rtol=1e-5, atol=1e-5)


def test_parallel_adapter_is_a_wider_ffn():
    """[W1; down] and [W2, up]: what a later fold relies on."""
    parent = build_parent('mmpretrain-vit')
    ours = moved(mmscalenet.expand(copy.deepcopy(parent), scale=1)).eval()
    for block, position in zip(parent.layers, ours.layers.positions, strict=True):
        narrow, adapter = block.ffn.layers, position.adapter
        wide1 = torch.nn.Linear(24, 48 + 10)
        wide2 = torch.nn.Linear(48 + 10, 24)
        with torch.no_grad():
            wide1.weight.copy_(torch.cat([narrow[0][0].weight, adapter.down.weight]))
            wide1.bias.copy_(torch.cat([narrow[0][0].bias, torch.zeros(10)]))
            wide2.weight.copy_(torch.cat([narrow[1].weight, adapter.up.weight], 1))
            wide2.bias.copy_(narrow[1].bias)
        narrow[0][0], narrow[1] = wide1, wide2
    parent.eval()
    torch.testing.assert_close(ours(image())[0], parent(image())[0], rtol=1e-5, atol=1e-5)


def test_deit_tiny_x2_has_the_published_count():
    backbone = mmscalenet.ScaleNetDeiT(arch='deit-tiny', scale=2)
    head = 192 * 1000 + 1000
    assert 6.445e6 < sum(p.numel() for p in backbone.parameters()) + head < 6.455e6


class Block(torch.nn.Module):
    """Of a library that is not known."""

    def __init__(self):
        super().__init__()
        self.norm = torch.nn.LayerNorm(8)
        self.fc = torch.nn.Linear(8, 8)

    def forward(self, x):
        return x + self.fc(self.norm(x)).relu()


class Net(torch.nn.Module):
    def __init__(self, frozen_stages=-1):
        super().__init__()
        self.layers = torch.nn.ModuleList(Block() for _ in range(3))
        self.frozen_stages = frozen_stages

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x, len(self.layers)


def test_an_unknown_block_expands_with_its_adapter_beside_the_whole():
    net = Net().eval()
    x = torch.randn(2, 5, 8)
    expected, _ = net(x)
    twice = expected
    for layer in net.layers:
        twice = layer(twice)
    assert torch.equal(mmscalenet.expand(copy.deepcopy(net), gate=0)(x)[0], expected)
    out, count = mmscalenet.expand(copy.deepcopy(net))(x)
    assert count == 6
    torch.testing.assert_close(out, twice)
    with pytest.raises(ValueError, match="unshare='norms' is not possible for a Block"):
        mmscalenet.expand(net, unshare='norms')
    for block in net.layers:
        block.norm = torch.nn.Identity()
    with pytest.raises(ValueError, match='adapter=.* is not possible for a Block, which has no LayerNorm'):
        mmscalenet.expand(net)
    assert type(net) is Net and len(mmscalenet.expand(net, adapter=None).layers) == 6


def test_a_backbone_that_does_not_initialise_itself_in_a_model_of_mmengine():
    """It keeps its weights there, grown as well."""
    net = randomise(mmscalenet.expand(Net(), gate=0.5))
    model, before = BaseModule(), copy.deepcopy(net.state_dict())
    model.backbone = net
    model.init_weights()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_frozen_blocks_of_a_backbone_with_another_stem():
    net = mmscalenet.expand(Net(frozen_stages=1)).train()
    assert [block.training for block in net.layers.blocks] == [False, True, True]
    trained = {name.split('.')[1] for name, value in net.named_parameters() if value.requires_grad}
    assert trained == {'1', '2', 'positions'}


def test_blocks_get_what_the_parent_hands_them_by_name():
    """As BEiT's pretraining does; a block that runs whole is exact where it has no gate."""
    parent = randomise(BEiTPretrainViT(arch=DEIT_ARCH, img_size=32, patch_size=8, use_shared_rel_pos_bias=True))
    parent.eval()
    x, mask = image((32, 32)), torch.arange(32).reshape(2, 16) % 3 == 0
    expected = parent(x, mask)[0]
    assert torch.equal(mmscalenet.expand(parent, gate=0.)(x, mask)[0], expected)


def test_swin_scales_by_stage_and_shows_its_table():
    ours = build_scalenet('mmdet-swin', scale=(1, 1, 1.5, 2), gate=0)
    assert [len(p) for p in position_lists(ours).values()] == [2, 2, 6, 4]
    lines = layer_table(ours).splitlines()
    assert len(lines) == 1 + 14
    assert lines[0].split() == ('list position block added from depth shift adapter gate core input drop path').split()
    assert lines[10].split()[:6] == ['stages.2.blocks', '5', '1', 'yes', '6', '2']


@every_parent
@pytest.mark.parametrize('arguments, message', [
    (dict(scale=-1), 'scale=-1 is not allowed'),
    (dict(scale=0), 'scale=0 is not allowed'),
    (dict(scale=[2, 2]), 'scale=\\[2, 2\\] has 2 numbers'),
    (dict(layer_map='zigzag'), "layer_map='zigzag' is unknown.*cyclic"),
    (dict(layer_map=[[0], [0], [0], [0], [0]]), 'layer_map=.* is not allowed; give one of .*cyclic'),
    (dict(layer_map=None), 'layer_map=None is not allowed'),
    (dict(layer_map=[0, [1], 2, 3]), 'layer_map=\\[0, \\[1\\], 2, 3\\] is not allowed'),
    (dict(layer_map=3), 'layer_map=3 is not allowed'),
    (dict(adapter=dict(type='Adaptor')), "adapter=.*Adaptor.*is not allowed; allowed.*ParallelAdapter"),
    (dict(adapter=dict(type='ParallelAdapter', ratio=1.5)), 'ratio=1.5 is not allowed; give a number from 1/'),
    (dict(adapter=dict(type='ParallelAdapter', ratio=0)), 'ratio=0 is not allowed'),
    (dict(adapter=dict(type='ParallelAdapter', width=5)), 'width'),
    (dict(adapter=dict(type='ParallelAdapter', ratio=float('nan'))), 'ratio=nan is not allowed'),
    (dict(adapter=dict(type='ParallelAdapter', ratio='wide')), "ratio='wide' is not allowed"),
    (dict(adapter=dict(type=torch.nn.Linear)), 'adapter=.*Linear.* is not allowed.*subclass of Adapter'),
    (dict(adapter=dict(type='LoRA', rank=0)), 'rank=0'),
    (dict(adapter=dict(type='LoRA', rank=25)), 'rank=25 is not allowed; give an integer from 1 to the'),
    (dict(adapter=dict(type='LoRA', alpha='1')), "alpha='1' is not allowed"),
    (dict(adapter='ParallelAdapter'), "adapter='ParallelAdapter' is not allowed"),
    (dict(adapter=dict(type='ParallelAdapter', act_cfg={})), "adapter=.*'act_cfg': {}.*type"),
    (dict(adapter=dict(type='ParallelAdapter', act_cfg=dict(type='Gelo'))), 'adapter=.*Gelo is not in'),
    (dict(gate='open'), "gate='open'"),
    (dict(gate=float('nan')), 'gate=nan'),
    (dict(gate=float('inf')), 'gate=inf'),
    (dict(unshare='attn'), "unshare='attn'.*norms"),
    (dict(unshare='norms', share=False), 'share=False'),
    (dict(freeze='all'), "freeze='all'.*base"),
    (dict(share=1), 'share=1'),
    (dict(with_cp='yes'), "with_cp='yes' is not allowed"),
    (dict(drop_path_rate=1.5), 'drop_path_rate=1.5'),
    (dict(drop_path_rate='0.1'), "drop_path_rate='0.1' is not allowed"),
])
def test_bad_arguments_are_named_and_leave_the_backbone_alone(name, arguments, message):
    parent = build_parent(name)
    parent.eval()
    expected = parent(image())
    before = type(parent), list(parent.state_dict())
    with pytest.raises(ValueError, match=message):
        mmscalenet.expand(parent, **arguments)
    assert before == (type(parent), list(parent.state_dict()))
    assert_equal(parent(image()), expected)


def test_gate_needs_blocks_in_order_and_expansion_happens_once():
    with pytest.raises(ValueError, match='gate needs a layer_map'):
        mmscalenet.expand(build_parent('mmpretrain-vit'), layer_map=[1, 0, 2, 3, 0], gate=0)
    with pytest.raises(ValueError, match='expanded already'):
        mmscalenet.expand(build_scalenet('mmpretrain-vit'))
    compiled = build_parent('mmpretrain-vit')
    compiled.layers[1] = torch.compile(compiled.layers[1])
    for backbone, name in ((compiled, 'layers.1'), (torch.compile(build_parent('mmpretrain-vit')), 'the backbone')):
        with pytest.raises(ValueError, match=f'^{name} is wrapped by torch.compile'):
            mmscalenet.expand(backbone)
    with pytest.raises(TypeError, match='cannot expand a Linear'):
        mmscalenet.expand(torch.nn.Linear(2, 2))


@pytest.mark.parametrize('name, place, first', [('mmpretrain-vit', 'layers.3', 'layers.1'),
                                                ('mmdet-swin', 'stages.2.blocks.3', 'stages.2.blocks.1')])
def test_a_block_that_is_there_twice_is_refused_before_anything_is_changed(name, place, first):
    parent = build_parent(name)
    blocks = parent.get_submodule(place.rpartition('.')[0])
    blocks[3] = blocks[1]
    before = [(key, type(module), len(module._forward_hooks)) for key, module in parent.named_modules()]
    with pytest.raises(ValueError, match=f'{place} is {first} once more'):
        mmscalenet.expand(parent)
    assert before == [(key, type(module), len(module._forward_hooks)) for key, module in parent.named_modules()]


def test_weights_trained_with_another_layer_map_are_refused():
    cyclic, interleaved = (build_scalenet('mmpretrain-vit', layer_map=m) for m in ('cyclic', 'interleaved'))
    cyclic.load_state_dict(build_scalenet('mmpretrain-vit').state_dict())
    with pytest.raises(RuntimeError, match='trained with layer_map=\\[0, 1, 2, 3, 0, 1, 2, 3\\]'):
        interleaved.load_state_dict(cyclic.state_dict())
    assert interleaved.layers.positions.layer_map.tolist() == interleaved.layers.layer_map == [0, 0, 1, 1, 2, 2, 3, 3]
    with pytest.raises(RuntimeError, match='trained with layer_map'):  # as mmengine's runners load
        load_state_dict(interleaved, cyclic.state_dict(), strict=False)


@every_parent
@pytest.mark.parametrize('adapter', [dict(type='ParallelAdapter'), dict(type='LoRA', rank=2)])
def test_mixed_precision_trains(name, adapter):
    ours = moved(build_scalenet(name, adapter=adapter, gate=0.5)).train()
    with torch.autocast('cpu', torch.bfloat16):
        loss = sum(o.float().square().mean() for o in flatten(ours(image())))
    loss.backward()
    owned = [p for n, p in ours.named_parameters() if '.positions.' in n]
    assert owned and all(p.grad is not None and torch.isfinite(p.grad).all() for p in owned)


def test_positions_take_device_and_dtype_of_the_base():
    ours = mmscalenet.expand(build_parent('mmpretrain-vit').double())
    assert {p.dtype for p in ours.parameters()} == {torch.float64}


def test_base_weights_load_by_name():
    parent = build_parent('mmseg-vit')
    ours = build_scalenet('mmseg-vit', gate=0).eval()
    copy_base(parent, ours)
    parent.eval()
    assert_equal(ours(image((32, 32))), parent(image((32, 32))))


def test_own_norms_start_as_the_blocks_where_weights_come_by_name():
    """As from a whole classifier's ``init_cfg``, which does not ask the backbone."""
    parent = build_parent('mmpretrain-vit')
    own = build_scalenet('mmpretrain-vit', unshare='norms', adapter=None).eval()
    shared = build_scalenet('mmpretrain-vit', adapter=None).eval()
    for model in own, shared:
        copy_base(parent, model)
    assert_equal(own(image()), shared(image()))
    moved(own)
    fresh = build_scalenet('mmpretrain-vit', unshare='norms', adapter=None).eval()
    fresh.load_state_dict(own.state_dict())  # those in the file count
    assert_equal(fresh(image()), own(image()))


def test_norms_of_positions_that_train_train():
    model = build_scalenet('mmpretrain-vit', unshare='norms', frozen_stages=2).train()
    trained = [position.norm1.weight.requires_grad for position in model.layers.positions[4:]]
    assert trained == [True] * 4 and not model.layers.blocks[0].ln1.weight.requires_grad


@pytest.mark.parametrize('name', ['mmpretrain-swin', 'mmdet-swin', 'mmseg-swin'])
def test_stages_of_a_swin_are_frozen_before_it_is_told_to_train(name):
    """Optimizers and DistributedDataParallel look at what is frozen when they are built."""
    model = build_scalenet(name, frozen_stages=1)
    before = [key for key, value in model.named_parameters() if value.requires_grad]
    model.train()
    assert before == [key for key, value in model.named_parameters() if value.requires_grad]
    assert not any(key.startswith(('patch_embed', 'stages.0')) for key in before) and len(before) > 50


@every_parent
def test_drop_path_drops_the_adapter_with_its_branch(name):
    """At a rate at which nothing gets through, adapters change nothing."""
    ours = randomise(build_scalenet(name, drop_path_rate=0.5)).train()
    for module in ours.modules():
        if isinstance(module, DropPath):
            module.drop_prob = 1 - 1e-7
    outputs = ours(image())
    for positions in position_lists(ours).values():
        for position in positions.positions:
            assert position.adapter.up.weight.abs().max() > 0.1
            position.adapter.up.weight.data.zero_()
    assert_equal(ours(image()), outputs)


@pytest.mark.parametrize('training', [True, False])
@every_parent
def test_expand_leaves_the_mode(name, training):
    parent = build_parent(name)
    parent.train(training)
    grown = mmscalenet.expand(parent, scale=2)
    assert {module.training for module in grown.modules()} == {training}


def test_adapters_start_as_a_linear_layer_of_torch_does():
    positions = build_scalenet('mmpretrain-vit').layers
    down = torch.cat([position.adapter.down.weight.detach().flatten() for position in positions])
    bound = DEIT_ARCH['embed_dims']**-0.5
    assert 0.99 * bound < down.abs().max() <= bound
    assert down.std() == pytest.approx(bound / 3**0.5, rel=0.05)


@pytest.mark.parametrize('frozen_stages', [-1, 0, 1])
def test_dropout_after_the_position_embedding_goes_with_the_stem(frozen_stages):
    model, parent = (build('mmpretrain-vit', frozen_stages=frozen_stages, drop_rate=0.5)
                     for build in (build_scalenet, build_parent))
    model.train()
    assert model.drop_after_pos.p == 0.5
    assert model.drop_after_pos.training == model.patch_embed.training == (frozen_stages <= 0)
    assert [p.requires_grad for p in model.patch_embed.parameters()] == [
        p.requires_grad for p in parent.patch_embed.parameters()]


def test_a_fresh_model_trains_though_its_first_block_is_frozen():
    model = build_scalenet('mmpretrain-vit', frozen_stages=1, drop_path_rate=0.5)
    assert [block.training for block in model.layers.blocks] == [False, True, True, True]
    assert model.layers.positions[-1].training


def test_frozen_base_without_sharing_trains_the_added_blocks():
    """LLaMA Pro: copies that start closed, between blocks that stay as they are."""
    model = build_scalenet('mmpretrain-vit', share=False, freeze='base', adapter=None, gate=0.).train()
    trained = {key.rsplit('.', 2)[0] for key, value in model.named_parameters() if value.requires_grad}
    assert {key.split('.')[1] for key in trained} == {'4', '5', '6', '7', 'positions'}


@pytest.mark.parametrize('frozen_stages', [-1, 2])
def test_a_base_that_was_frozen_before_has_copies_that_train(frozen_stages):
    """But for those of blocks that the parent freezes."""
    base = build_parent('mmpretrain-vit', frozen_stages=frozen_stages).requires_grad_(False)
    model = mmscalenet.expand(base, share=False, freeze='base', adapter=None).train()
    trained = {key.split('.')[1] for key, value in model.named_parameters() if value.requires_grad}
    assert trained == ({'6', '7'} if frozen_stages == 2 else {'4', '5', '6', '7'})


@pytest.mark.parametrize('name', ['mmpretrain-swin', 'mmdet-swin', 'mmseg-swin', 'mmseg-vit'])
def test_a_parent_that_checkpoints_goes_on_to(name):
    model = mmscalenet.expand(build_parent(name, with_cp=True))
    assert all(position.with_cp for positions in position_lists(model).values() for position in positions.positions)


@pytest.mark.parametrize('share', [True, False])
def test_layers_are_indexed_as_a_list(share):
    layers = build_scalenet('mmpretrain-vit', share=share).layers
    positions = list(layers.positions)
    assert layers[:3] == positions[:3] and layers[-1] is positions[-1]
    assert list(layers) == positions
    with pytest.raises(IndexError):
        layers[8]


def test_what_cannot_be_expanded_is_not():
    """And a parent that gives nothing gives nothing grown."""
    with pytest.raises(TypeError, match='expand takes a built backbone, not None'):
        mmscalenet.expand(None)
    with pytest.raises(TypeError, match='cannot expand a Module: .*Expand its `backbone`'):
        whole = torch.nn.Module()
        whole.backbone = build_parent('mmpretrain-vit')
        mmscalenet.expand(whole)
    with pytest.raises(ValueError, match='out_indices=\\[4\\]: 4 is not allowed; the backbone has blocks 0 to 3'):
        mmscalenet.expand(build_parent('mmpretrain-vit', out_indices=[4]))


@pytest.mark.parametrize('outside', [False, True])
def test_built_on_the_meta_device(outside):
    """Without memory for the weights, until they are there. Only mmpretrain's ViT of the parents can be built so."""
    parent, arguments, _ = PARENTS['mmpretrain-vit']
    with torch.device('meta'):
        model = parent(**arguments) if outside else build_scalenet('mmpretrain-vit', gate=0.5, unshare='norms')
    if outside:
        mmscalenet.expand(model, gate=0.5, unshare='norms')
    assert {tensor.device.type for tensor in (*model.parameters(), *model.buffers())} == {'meta'}
    real = randomise(build_scalenet('mmpretrain-vit', gate=0.5, unshare='norms')).eval()
    model.load_state_dict(real.state_dict(), assign=True)
    assert torch.equal(model.eval()(image())[0], real(image())[0])
    assert [p.drop_path.drop_prob for p in model.layers] == [p.drop_path.drop_prob for p in real.layers]


@pytest.mark.parametrize('name', ['mmpretrain-vit', 'mmseg-vit', 'mmdet-swin'])
@pytest.mark.parametrize('options', [dict(unshare='norms'), dict(share=False)])
def test_base_weights_by_name_fill_what_positions_own_and_stay_apart(name, options):
    """By ``load_state_dict`` alone, also where it takes the tensors as they are."""
    base = randomise(build_parent(name)).state_dict()
    ours = mmscalenet.expand(build_parent(name), adapter=None, **options)
    lacking, left = ours.load_state_dict(base, strict=False, assign=True)
    assert not left and all(key.endswith('.layer_map') for key in lacking)
    for positions in position_lists(ours).values():
        for p, position in enumerate(positions.positions):
            shared = positions.block_of(positions.layer_map[p])
            for own, norm in position.own_norms().items():
                assert norm.weight.equal(shared.get_submodule(own).weight)
    storages = Counter(parameter.data_ptr() for parameter in ours.parameters())
    assert max(storages.values()) == 1
