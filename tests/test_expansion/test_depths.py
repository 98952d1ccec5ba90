"""Depth that changes: what runs at which depth, and that it is what a net of that depth computes."""
import copy
import re

import pytest
import torch
from parents import PARENTS, build_scalenet, flatten, image, randomise
from torch.utils.flop_counter import FlopCounterMode

import mmscalenet
from mmscalenet.expansion import layer_table, position_lists
from mmscalenet.expansion.depths import activation_order, resolve, runnable_depths, totals
from mmscalenet.expansion.layer_map import build_layer_map

every_parent = pytest.mark.parametrize('name', PARENTS)
OPTIONS = {
    'cyclic': dict(),
    'interleaved, three times, sub-steps': dict(layer_map='interleaved', scale=3, gate='1/N'),
    'middle_cycle, gates, norms': dict(layer_map='middle_cycle', gate=0.5, unshare='norms'),
    'copies': dict(share=False),
    'LoRA': dict(adapter=dict(type='LoRA', rank=2)),
}


def assert_equal(a, b):
    a, b = flatten(a), flatten(b)
    assert len(a) == len(b)
    for left, right in zip(a, b, strict=True):
        assert torch.equal(left, right), (left - right).abs().max()


def only_what_runs(model) -> dict[str, torch.Tensor]:
    """The weights of ``model`` under the names of a net that has just the positions that run."""
    state = model.state_dict()
    for name, positions in position_lists(model).items():
        number = {p: i for i, p in enumerate(positions.running)}
        own = re.compile(rf'{re.escape(name)}\.positions\.(\d+)\.' if positions.share
                         else rf'{re.escape(name)}\.(?:positions\.)?(\d+)\.')
        for key in list(state):
            if match := own.match(key):
                value, p = state.pop(key), int(match[1])
                if p in number:
                    state[f'kept {key[:match.start(1)]}{number[p]}{key[match.end(1):]}'] = value
        state.pop(f'{name}.positions.layer_map', None)
    return {key.removeprefix('kept '): value for key, value in state.items()}


@pytest.mark.parametrize('layer_map, depth, scale, period, core, expected', [
    ('cyclic', 4, 2, 1, None, [[4], [5], [6], [7]]),
    ('cyclic', 4, 2, 2, None, [[4, 5], [6, 7]]),
    ('cyclic', 2, 1.5, 2, None, [[2]]),
    ('interleaved', 4, 2, 1, None, [[3], [5], [1], [7]]),
    ('interleaved', 3, 3, 1, None, [[4], [1], [7], [5], [2], [8]]),
    ('interleaved', 6, 2, 2, None, [[6, 7], [2, 3], [10, 11]]),
    ('middle_cycle', 6, 8 / 6, 1, (2, 3), [[4], [5]]),
    ('middle_cycle', 6, 10 / 6, 2, (2, 3), [[4, 5], [6, 7]]),
    ([0, 0, 1, 2, 1], 3, 1, 1, None, [[1], [4]]),
])
def test_the_order_of_every_map(layer_map, depth, scale, period, core, expected):
    built = build_layer_map(layer_map, depth, scale, period, core)
    order = activation_order(built, layer_map, period)
    assert order == expected
    runnable = runnable_depths(built, order, period)
    assert next(iter(runnable)) == depth and list(runnable)[-1] == len(built)
    sizes = list(runnable)
    for smaller, larger in zip(sizes, sizes[1:], strict=False):
        assert set(runnable[smaller]) < set(runnable[larger])
    assert [built[p] for p in runnable[depth]] == list(range(depth))


@pytest.mark.parametrize('layer_map, core', [('cyclic', None), ('middle_cycle', None), ('middle_cycle', (4, 7))])
def test_a_smaller_depth_is_the_same_map_at_a_smaller_scale(layer_map, core):
    full = build_layer_map(layer_map, 12, 2, core=core)
    for depth, running in runnable_depths(full, activation_order(full, layer_map)).items():
        assert [full[p] for p in running] == build_layer_map(layer_map, 12, depth / 12, core=core)


def test_stages_grow_at_the_same_pace():
    known = dict(a=[2, 4], b=[2, 4], c=[6, 8, 10, 12], d=[2, 4])
    assert list(totals(known)) == [12, 14, 16, 18, 20, 22, 24]
    assert totals(known)[16] == dict(a=2, b=2, c=10, d=2) and totals(known)[18] == dict(a=2, b=2, c=12, d=2)
    assert resolve(known, [2, 4, 8, 2]) == dict(a=2, b=4, c=8, d=2)


@every_parent
@pytest.mark.parametrize('options', OPTIONS.values(), ids=OPTIONS)
def test_equals_a_net_of_just_these_positions_bit_for_bit(name, options):
    model = randomise(build_scalenet(name, **options)).eval()
    outputs = model(image())
    depths = model.runnable_depths()
    assert len(depths) > 2 and depths[-1] == sum(model.active_depth)
    for depth in depths:
        model.set_depth(depth)
        maps = [[positions.layer_map[p] for p in positions.running] for positions in position_lists(model).values()]
        twin = build_scalenet(name, **options | dict(scale=1, layer_map=maps if 'swin' in name else maps[0]))
        own, state = twin.state_dict(), only_what_runs(model)
        # a file of the smaller net holds its own map; what runs once takes no sub-steps, and has no factor for them
        state = {key: state[key] for key in state if key in own or not key.endswith('.gate')}
        twin.load_state_dict(state | {key: own[key] for key in own if key.endswith('.layer_map')})
        assert_equal(model(image()), twin.eval()(image()))
    assert_equal(model(image()), outputs)


@pytest.mark.parametrize('layer_map, core', [('cyclic', None), ('middle_cycle', (1, 2))])
@pytest.mark.parametrize('name', ['mmpretrain-vit', 'mmseg-vit'])
def test_the_cores_input_too(name, layer_map, core):
    """Maps of which a list would not do, as a list has no core."""
    model = randomise(build_scalenet(name, layer_map=layer_map, core=core, inject=True)).eval()
    for depth in model.runnable_depths():
        model.set_depth(depth)
        twin = build_scalenet(name, layer_map=layer_map, core=core, inject=True, scale=depth / 4)
        own, state = twin.state_dict(), only_what_runs(model)
        state = {key: state[key] for key in state if key in own or not key.endswith('.inject')}
        twin.load_state_dict(state | {key: own[key] for key in own if key.endswith('.layer_map')})
        assert_equal(model(image()), twin.eval()(image()))


@every_parent
def test_the_base_depth_is_the_base_and_costs_as_much(name):
    model = randomise(build_scalenet(name, adapter=None)).eval()
    base = randomise(build_scalenet(name, adapter=None, scale=1)).eval()
    model.set_depth(sum(positions.num_base for positions in position_lists(model).values()))
    base.load_state_dict({key: value for key, value in model.state_dict().items() if '.positions.' not in key})
    counted = []
    for net in (model, base):
        with FlopCounterMode(display=False) as counter:
            net(image())
        counted.append(counter.get_total_flops())
    assert counted[0] == counted[1]
    assert_equal(model(image()), base(image()))


@every_parent
def test_the_state_dict_and_copies_and_the_argument(name):
    model = randomise(build_scalenet(name))
    expected = copy.deepcopy(model.state_dict())
    depth = model.runnable_depths()[1]
    model.set_depth(depth)
    assert model.state_dict().keys() == expected.keys()
    twin = build_scalenet(name, depth=depth)
    assert twin.active_depth == model.active_depth == copy.deepcopy(model).active_depth
    twin.load_state_dict(expected)
    assert_equal(model.eval()(image()), twin.eval()(image()))


@every_parent
@pytest.mark.parametrize('options', OPTIONS.values(), ids=OPTIONS)
def test_deployed_it_keeps_only_what_runs(name, options):
    model = randomise(build_scalenet(name, **options)).eval()
    depth = model.runnable_depths()[1]
    model.set_depth(depth)
    expected = model(image())
    model.switch_to_deploy()
    for one, other in zip(flatten(model(image())), flatten(expected), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    blocks = [block for positions in position_lists(model).values() for block in positions.blocks]
    assert len(blocks) == depth == sum(model.active_depth) and model.runnable_depths() == [depth]


@every_parent
def test_what_does_not_run_gets_no_gradient(name):
    model = randomise(build_scalenet(name, gate='1/N', unshare='norms', with_cp=True)).train()
    model.set_depth(model.runnable_depths()[0])
    sum(output.sum() for output in flatten(model(image()))).backward()
    for positions in position_lists(model).values():
        for p, position in enumerate(positions.positions):
            moved = [key for key, parameter in position.named_parameters() if parameter.grad is not None]
            assert bool(moved) == (not positions.added[p]) and 'gate' not in moved


def test_sub_steps_of_one_use_are_the_base():
    model = build_scalenet('mmpretrain-vit', gate='1/N', adapter=None, layer_map='middle_cycle', core=(1, 1),
                           scale=1.5)
    assert [position.gate is not None for position in model.layers.positions] == [False, True, True, True, False, False]
    torch.testing.assert_close(model.layers.positions[1].factors(), torch.tensor([1 / 3, 1 / 3]))
    model.set_depth(5)
    torch.testing.assert_close(model.layers.positions[1].factors(), torch.tensor([0.5, 0.5]))
    assert '1/3' in layer_table(model)


@every_parent
@pytest.mark.parametrize('layer_map', ['cyclic', 'middle_cycle'])
def test_the_cores_input_changes_nothing_at_the_start_and_is_added_later(name, layer_map):
    plain = randomise(build_scalenet(name, layer_map=layer_map, adapter=None)).eval()
    model = build_scalenet(name, layer_map=layer_map, adapter=None, inject=True).eval()
    missing, unexpected = model.load_state_dict(plain.state_dict(), strict=False)
    assert missing and not unexpected and all(key.endswith('.inject') for key in missing)
    assert_equal(model(image()), plain(image()))
    model.train()
    sum(output.square().sum() for output in flatten(model(image()))).backward()
    factors = [parameter for key, parameter in model.named_parameters() if key.endswith('.inject')]
    assert all(factor.grad.abs().item() > 0 for factor in factors)


def test_where_the_cores_input_is_added():
    """Against the sum written out."""
    model = randomise(build_scalenet('mmpretrain-vit', layer_map='middle_cycle', core=(1, 2), scale=2, inject=True))
    layers = model.eval().layers
    assert [p for p, position in enumerate(layers.positions) if position.inject is not None] == [3, 5, 7]
    x = torch.randn(2, 17, 24)
    out, e = x, None
    for p, block in enumerate([0, 1, 2, 1, 2, 1, 2, 3]):
        position = layers.positions[p]
        e = out if p == 1 else e
        out = out if position.inject is None else out + position.inject * e
        assert position.block is layers.blocks[block]
        out = position(out)
    ours = x
    for layer in layers:
        ours = layer(ours)
    assert torch.equal(ours, out)


@pytest.mark.parametrize('depths, expected, entry', [([6], [4, 6, 8], 2), ([4], [4], 0), ([2], [2], 0)])
def test_where_it_is_added_in_a_stage_of_pairs(depths, expected, entry):
    """Without a core of the user's: all but the first and the last pair, or all."""
    model = build_scalenet('mmdet-swin', depths=depths, num_heads=[2], strides=[4], out_indices=[0],
                           layer_map='middle_cycle', inject=True, scale=10 / 6 if depths == [6] else 2)
    positions = position_lists(model)['stages.0.blocks']
    assert [p for p, position in enumerate(positions.positions) if position.inject is not None] == expected
    assert positions.core_entry == entry


def test_two_depths_before_one_backward_pass():
    """With recomputation: a position is recomputed as it ran."""
    grads = []
    for with_cp in (False, True):
        model = randomise(build_scalenet('mmpretrain-vit', scale=3, gate='1/N', with_cp=with_cp)).train()
        loss = 0
        for depth in (8, 12):
            model.set_depth(depth)
            loss = loss + model(image())[-1].square().sum()
        loss.backward()
        grads.append({name: parameter.grad for name, parameter in model.named_parameters()})
    for name, grad in grads[0].items():
        torch.testing.assert_close(grads[1][name], grad, rtol=1e-4, atol=1e-4, msg=name)


def test_windows_go_with_the_positions_whatever_sets_the_depth(logged):
    options = dict(window_size=2, with_cls_token=False, out_type='featmap', global_positions=2)
    given = build_scalenet('mmpretrain-vit', depth=6, **options)
    later = build_scalenet('mmpretrain-vit', **options)
    assert len([line for line in logged if 'attend to the whole image' in line]) == 1
    later.set_depth(6)
    assert len([line for line in logged if 'depth 6: with global_positions=2 blocks' in line]) == 2
    windows = [[position.around_attention is None for position in model.layers.positions] for model in (given, later)]
    assert windows[0] == windows[1] == [p in (3, 7) for p in range(8)]
    randomise(given)
    later.load_state_dict(given.state_dict())
    assert_equal(given.eval()(image()), later.eval()(image()))


@pytest.mark.skipif(torch.__version__ < '2.6', reason='its compiler refuses the loop')
@pytest.mark.parametrize('name', ['mmpretrain-vit', pytest.param('mmdet-swin', marks=pytest.mark.slow)])
def test_the_graph_stays_whole(name, fresh_compiler):
    model = randomise(build_scalenet(name, inject=True, gate='1/N')).eval()
    compiled = torch.compile(model, backend='eager', fullgraph=True)
    for depth in model.runnable_depths()[::2]:
        model.set_depth(depth)
        for one, other in zip(flatten(compiled(image())), flatten(model(image())), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@every_parent
@pytest.mark.parametrize('arguments, message', [
    (dict(depth=3), 'depth=3 is not allowed; allowed are'),
    (dict(depth=100), 'depth=100 is not allowed'),
    (dict(depth='all'), "depth='all' is not allowed"),
    (dict(depth=True), 'depth=True is not allowed'),
    (dict(depth=12.0), 'depth=12.0 is not allowed'),
    (dict(adapter=dict(type='ParallelAdapter', scale=True)), 'scale=True is not allowed'),
    (dict(depth=[4, 4, 4]), 'depth=.* has 3 numbers'),
    (dict(layer_map='interleaved', inject=True), "inject=True is not possible with layer_map='interleaved'"),
    (dict(inject='yes'), "inject='yes' is not allowed"),
    (dict(gate='1/2'), "gate='1/2' is not allowed; give None, '1/N' or"),
    (dict(adapter=dict(type='ParallelAdapter', scale=0)), 'scale=0 is not allowed'),
    (dict(adapter=dict(type='ParallelAdapter', dropout=1)), 'dropout=1 is not allowed'),
])
def test_bad_arguments_are_named_and_leave_the_backbone_alone(name, arguments, message):
    parent, options, _ = PARENTS[name]
    backbone = parent(**copy.deepcopy(options))
    kind, keys = type(backbone), backbone.state_dict().keys()
    with pytest.raises(ValueError, match=message):
        mmscalenet.expand(backbone, **arguments)
    assert type(backbone) is kind and backbone.state_dict().keys() == keys


@pytest.mark.parametrize('name, arguments, message', [
    ('mmpretrain-vit', dict(layer_map='middle_cycle', core=(2, 4)), 'core=.2, 4. is not allowed; .* from 0 to 3'),
    ('mmpretrain-vit', dict(layer_map='middle_cycle', core=3), 'core=3 is not allowed'),
    ('mmpretrain-vit', dict(layer_map='middle_cycle', core=(2, 1)), 'core=.2, 1. is not allowed'),
    ('mmpretrain-vit', dict(core=(1, 2)), "core=.1, 2. goes with layer_map='middle_cycle'"),
    ('mmdet-swin', dict(layer_map='middle_cycle', core=(0, 1)), 'core=.0, 1. is not allowed; give, for every list'),
    ('mmdet-swin', dict(layer_map='middle_cycle', core=[None, None, (1, 2), None]), 'stages.2.blocks: core=.* cuts'),
    ('mmdet-swin', dict(layer_map='middle_cycle', core=[None, None, (2, 3), None], scale=[1, 1, 5 / 4, 1]),
     'whole pairs of plain'),
    ('mmdet-swin', dict(depth=11), 'depth=11 is not allowed; allowed are 10, 12, 14, 16, 18, 20'),
    ('mmdet-swin', dict(depth=[2, 2, 5, 2]), 'depth=.*: 5 is not allowed for stages.2.blocks; allowed there are 4, 6'),
])
def test_what_a_family_refuses(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        build_scalenet(name, **arguments)


def test_a_core_per_stage():
    model = build_scalenet('mmdet-swin', layer_map='middle_cycle', core=[None, None, (2, 3), None],
                           scale=[1, 1, 2, 1], inject=True)
    assert [p.layer_map for p in position_lists(model).values()] == [[0, 1], [0, 1], [0, 1, 2, 3, 2, 3, 2, 3], [0, 1]]
    assert model.runnable_depths() == [10, 12, 14]
    assert 'from depth' in layer_table(model)


def test_taps_move_with_the_depth():
    model = build_scalenet('mmseg-vit', out_indices=(1, 3))
    assert model.out_indices == [3, 7]
    model.set_depth(6)
    assert model.out_indices == [2, 5]
    model.set_depth(4)
    assert model.out_indices == [1, 3]


def test_scale_and_dropout_of_the_adapter():
    torch.manual_seed(0)
    adapter = dict(type='ParallelAdapter', scale=0.1, dropout=0.5)
    model = randomise(build_scalenet('mmpretrain-vit', adapter=adapter))
    plain = randomise(build_scalenet('mmpretrain-vit'))
    for position in plain.layers.positions:
        position.adapter.up.weight.data *= 0.1
    torch.testing.assert_close(model.eval()(image()), plain.eval()(image()))
    position = model.train().layers.positions[0]
    h = torch.randn(1, 5, 24)
    drawn = [position.adapter(h) for _ in range(200)]
    assert not torch.equal(drawn[0], drawn[1])
    torch.testing.assert_close(torch.stack(drawn).mean(0), position.adapter.eval()(h), rtol=0.2, atol=0.05)
    assert 'scale=0.1, dropout=0.5' in layer_table(model)
