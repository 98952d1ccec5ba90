"""Windowed attention with a few global positions (ViTDet) on a grown DeiT."""
import copy
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from mmengine.runner import turn_on_activation_checkpointing
from mmengine.utils import digit_version
from parents import DEIT_ARCH, build_parent, copy_base, image
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import apply_activation_checkpointing

import mmscalenet
from mmscalenet import ScaleNetDeiT

DENSE = dict(arch=DEIT_ARCH, img_size=64, patch_size=8, with_cls_token=False, out_type='featmap', final_norm=False)


def build(**kwargs):
    return ScaleNetDeiT(**{**copy.deepcopy(DENSE), **kwargs}).eval()


def windowed(model):
    return [p for p, position in enumerate(model.layers.positions) if position.around_attention is not None]


@pytest.mark.parametrize('global_positions, expected', [
    (4, [0, 2, 4, 6]), (0, list(range(8))), (8, []), (1, list(range(7))), ([0, 7], [1, 2, 3, 4, 5, 6])
])
def test_global_positions_count_positions_not_blocks(global_positions, expected):
    assert windowed(build(window_size=3, global_positions=global_positions)) == expected


def test_one_shared_block_may_run_globally_and_within_windows():
    """Cyclic at scale 2: block 0 runs at positions 0 and 4."""
    model = build(window_size=3, global_positions=[4, 7])
    assert model.layers.layer_map[0] == model.layers.layer_map[4]
    assert 0 in windowed(model) and 4 not in windowed(model)


def test_windows_as_large_as_the_map_change_nothing():
    plain, model = build(), build(window_size=8, global_positions=0)
    model.load_state_dict(plain.state_dict())
    x = image((64, 64))
    torch.testing.assert_close(model(x)[0], plain(x)[0])


@pytest.mark.parametrize('size', [(64, 64), (50, 93)])
def test_windows_see_nothing_of_each_other(size):
    model = build(window_size=3, global_positions=0, scale=1, adapter=None)
    x = image(size, batch=1).requires_grad_()
    out, = model(x)
    out[0, :, 4, 5].sum().backward()  # the window of rows 3 to 5 and columns 3 to 5, 24 to 47 pixels
    seen = x.grad[0].abs().sum(0) > 0
    assert seen[24:48, 24:48].any()
    seen[24:48, 24:48] = False
    assert not seen.any()


def test_windowed_positions_equal_the_parent_run_on_each_window():
    parent = build_parent('mmpretrain-vit', with_cls_token=False, out_type='featmap', img_size=64)
    parent.eval()
    model = build(window_size=4, global_positions=0, scale=1, adapter=None, final_norm=True)
    copy_base(parent, model)
    x = image((64, 64))
    whole, = model(x)
    tokens, _ = parent.patch_embed(x)
    tokens = (tokens + parent.pos_embed).view(2, 2, 4, 2, 4, -1).transpose(2, 3).reshape(8, 16, -1)
    for layer in parent.layers:
        tokens = layer(tokens)
    expected = parent.ln1(tokens).view(2, 2, 2, 4, 4, -1).transpose(2, 3).reshape(2, 8, 8, -1).permute(0, 3, 1, 2)
    torch.testing.assert_close(whole, expected, rtol=1e-5, atol=1e-5)


def test_copies_note_the_size_of_their_own_images():
    model = build(window_size=3)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        small, large = image((32, 32)), image((80, 64))
        expected = model(small)[0]
        other(large)
        assert torch.equal(other(small)[0], expected)
        assert torch.equal(model(small)[0], expected)


def test_threads_run_images_of_their_own_size():
    model = build(window_size=3)
    images = [image((48, 72)), image((72, 48))]
    expected = [model(x)[0] for x in images]
    both = threading.Barrier(2, timeout=20)

    def wait(*_) -> None:  # until both images have been seen
        both.wait()

    model.patch_embed.register_forward_hook(wait)
    with ThreadPoolExecutor(2) as pool:
        outputs = [out for out, in pool.map(model, images)]
    assert all(map(torch.equal, outputs, expected))


def test_base_checkpoint_loads_and_trains(tmp_path):
    base = build_parent('mmpretrain-vit')  # with a class token, for images half as large
    torch.save(base.state_dict(), tmp_path / 'base.pth')
    model = build(window_size=3, with_cp=True, init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'base.pth')))
    model.init_weights()
    assert torch.equal(model.layers.blocks[2].attn.qkv.weight, base.layers[2].attn.qkv.weight)
    model.train()(image((48, 72)))[0].square().sum().backward()
    assert all(p.grad is not None for n, p in model.named_parameters())


def test_checkpointing_recomputes_each_image_with_its_own_windows():
    """Both images run before the gradients of either, as in semi-supervised training."""
    grads = []
    for with_cp in False, True:
        torch.manual_seed(0)
        model = build(window_size=3, global_positions=2, with_cp=with_cp).train()
        sum(model(image(size))[0].square().sum() for size in ((48, 72), (72, 48), (64, 64))).backward()
        grads.append([parameter.grad for parameter in model.parameters()])
    assert all(map(torch.equal, *grads))


@pytest.mark.parametrize('options', [{}, dict(inject=True)], ids=str)
def test_what_is_set_on_what_is_iterated_is_set_on_positions(options):
    model = build(window_size=3, **options)
    for layer in model.layers:
        layer.adapter = None
    assert [position.adapter for position in model.layers.positions] == [None] * 8


@pytest.mark.parametrize('tool', ['mmengine', 'torch'])
@pytest.mark.parametrize('kind', ['layers', 'layers.positions'])
@pytest.mark.parametrize('options', [{}, dict(inject=True)], ids=str)
def test_what_a_tool_recomputes_has_its_own_windows(kind, tool, options):
    """Blocks or positions; both images run before the gradients of either, which another thread makes, as on a GPU."""
    plain = build(window_size=3, global_positions=2, **options).train()
    model = copy.deepcopy(plain)
    names = [f'{kind}.{i}' for i in range(4)]
    if tool == 'mmengine':
        turn_on_activation_checkpointing(model, names)
    else:
        parts = [model.get_submodule(name) for name in names]
        apply_activation_checkpointing(model, check_fn=lambda module: any(module is part for part in parts))
    for net in plain, model:
        loss = sum((net(image(size))[0] * side).sum() for side, size in enumerate(((48, 72), (72, 48)), 1))
        with ThreadPoolExecutor(1) as pool:
            pool.submit(loss.backward).result()
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(digit_version(torch.__version__) < digit_version('2.2'),
                    reason='its compiler refuses a loop over a module with an __iter__ of its own')
def test_compiled_it_is_one_graph(fresh_compiler):
    model = build(window_size=3, global_positions=1, inject=True, scale=1.5)
    out, = torch.compile(model, backend='eager', fullgraph=True)(image((48, 72)))
    torch.testing.assert_close(out, model(image((48, 72)))[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('layer_map, uses', [('cyclic', [1, 3, 5, 7]), ('interleaved', [2, 3, 6, 7])])
def test_gate_0_starts_as_the_windowed_base_where_all_uses_of_its_global_blocks_are_global(layer_map, uses, logged):
    base = build(window_size=3, global_positions=2, scale=1, adapter=None)
    x = image((48, 72))
    lossy = build(window_size=3, global_positions=2, layer_map=layer_map, gate=0.)
    warnings = [line for line in logged if 'gate=0' in line]
    assert len(warnings) == 1 and f'global_positions={uses} does' in warnings[0]
    exact = build(window_size=3, global_positions=uses, layer_map=layer_map, gate=0.)
    assert [line for line in logged if 'gate=0' in line] == warnings
    for grown in lossy, exact:
        grown.load_state_dict(base.state_dict(), strict=False)
    assert torch.equal(exact(x)[0], base(x)[0]) and not torch.equal(lossy(x)[0], base(x)[0])


@pytest.mark.parametrize('arguments, message', [
    (dict(window_size=-1), 'window_size=-1'),
    (dict(window_size=2.5), 'window_size=2.5'),
    (dict(window_size=3, global_positions=9), 'global_positions=9 is not allowed; give a number from 0 to 8'),
    (dict(window_size=3, global_positions=[8]), 'global_positions=\\[8\\]'),
    (dict(global_positions=[99, 'x']), "global_positions=\\[99, 'x'\\] is not allowed; .* positions from 0 to 7"),
    (dict(global_positions='4'), "global_positions='4' is not allowed"),
])
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        build(**arguments)


@pytest.mark.parametrize('arguments', [dict(arch=DEIT_ARCH), dict(embed_dims=24, num_layers=4, num_heads=2)])
def test_a_class_token_belongs_to_no_window(arguments):
    with pytest.raises(ValueError, match='window_size=3 needs with_cls_token=False'):
        ScaleNetDeiT(img_size=64, patch_size=8, window_size=3, **arguments)


@pytest.mark.parametrize('base', ['mmpretrain.DeiT3', 'mmpretrain.ViTEVA02'])
def test_blocks_that_run_by_themselves_have_no_windows(base):
    with pytest.raises(ValueError, match=f"window_size=3 is not possible with base='{base}'.* is window_size=0"):
        build(base=base, window_size=3)
    assert windowed(build(base=base)) == []


def test_mmsegs_vit_has_windows_too():
    model = mmscalenet.ScaleNetDeiT(embed_dims=24, num_layers=4, num_heads=2, img_size=64, patch_size=8,
                                    with_cls_token=False, window_size=3).eval()
    assert model(image((64, 48)))[0].shape == (2, 24, 8, 6)
