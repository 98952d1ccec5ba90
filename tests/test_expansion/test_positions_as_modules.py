"""Positions and shared blocks are what tools expect of layers: hooks, names, checkpointing, counters."""
import copy
import functools
import inspect
import pickle
import runpy
import sys
from collections import Counter
from pathlib import Path

import mmpretrain
import numpy as np
import pytest
import torch
from families import build_family
from mmdet.models.backbones.swin import SwinBlock
from mmengine.config import Config
from mmengine.runner import Runner, turn_on_activation_checkpointing
from mmengine.utils import digit_version
from mmpretrain.apis import get_model
from mmpretrain.models.backbones.swin_transformer import SwinBlock as PretrainSwinBlock
from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer
from mmpretrain.models.utils import MultiheadAttention
from mmseg.models import BEiT
from parents import DEIT_ARCH, PARENTS, build_parent, build_scalenet, flatten, image, randomise
from PIL import Image
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import apply_activation_checkpointing
from torch.utils.flop_counter import FlopCounterMode

import mmscalenet
from mmscalenet.expansion import Position, position_lists

every_parent = pytest.mark.parametrize('name', PARENTS)
both_families = pytest.mark.parametrize('name', ['mmpretrain-vit', 'mmdet-swin'])


def block_names(model: nn.Module) -> list[str]:
    return [f'{name}.{i}' for name, blocks in position_lists(model).items() for i in range(blocks.num_blocks)]


def position_names(model: nn.Module) -> list[str]:
    return [f'{name}.positions.{p}' for name, blocks in position_lists(model).items() for p in range(len(blocks))]


def trained(model: nn.Module) -> tuple[int, list[Tensor], list[Tensor]]:
    """Numbers kept for the backward pass, outputs and gradients of one step."""
    kept = 0

    def pack(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += tensor.numel()
        return tensor

    torch.manual_seed(3)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        outputs = flatten(model(image()))
    sum(output.square().mean() for output in outputs).backward()
    return kept, outputs, [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


def assert_same_step(one: nn.Module, other: nn.Module) -> tuple[int, int]:
    (kept, *ours), (other_kept, *theirs) = trained(one), trained(other)
    for left, right in zip(ours, theirs, strict=True):
        assert len(left) == len(right) > 0
        for a, b in zip(left, right, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    return kept, other_kept


def test_indexing_shows_the_attributes_of_the_block():
    layers = build_scalenet('mmpretrain-vit', with_cp=True).layers
    assert all(isinstance(layer, nn.Module) for layer in [*layers, layers[-1], *layers[2:4]])
    last = layers[-1]
    assert last.ln1 is last.norm1 is layers.blocks[3].ln1 and last.ffn is layers.blocks[3].ffn
    assert isinstance(last.attn, MultiheadAttention) and last.embed_dims == 24 and last.block is layers.blocks[3]
    assert last.with_cp, "the position's own"
    with pytest.raises(AttributeError, match='no attribute .nothing'):
        _ = last.nothing
    stage = build_scalenet('mmdet-swin').stages[0].blocks
    assert stage[-1].attn is stage.blocks[1].attn and stage[-1].norm2 is stage.blocks[1].norm2
    assert not hasattr(Position(build_parent('mmpretrain-vit').layers[0]), 'attn'), 'it is in no list yet'


def test_an_own_norm_is_the_norm_that_is_shown():
    layers = build_scalenet('mmpretrain-vit', unshare='norms').layers
    assert layers[-1].ln1 is layers[-1].norm1 is layers.positions[7].own_norms()['ln1']
    assert layers[-1].ln1 is not layers[3].ln1


def test_methods_of_a_block_are_not_shown():
    """They would run it without the adapter."""
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.LayerNorm(8)

        def forward(self, x):
            return x + self.part(x)

        def part(self, x):
            return self.norm(x)

    net = nn.Module()
    net.layers = nn.ModuleList([Block()])
    mmscalenet.expand(net)
    with pytest.raises(AttributeError, match='part is a method of the block; take position.block.part'):
        net.layers[0].part(torch.zeros(1, 2, 8))


def test_parts_of_a_block_are_replaced_in_the_block():
    model = build_scalenet('mmpretrain-vit', unshare='norms').eval()
    before, names = flatten(model(image())), list(model.state_dict())
    other = copy.deepcopy(pickle.loads(pickle.dumps(model)))
    for layer, ln2 in ((model.layers[0], 'block.ln2'), (model.layers[-1], 'norm2'), (other.layers[-1], 'norm2')):
        for name, place in (('attn', 'block.attn'), ('ffn', 'block.ffn'), ('ln2', ln2)):
            with pytest.raises(AttributeError, match=f'a position only shows {name}; .* position.{place} = ...'):
                setattr(layer, name, nn.Identity())
    assert list(model.state_dict()) == names and all(map(torch.equal, flatten(model(image())), before))
    model.layers[-1].block.ffn = nn.Identity()
    assert not torch.equal(flatten(model(image()))[0], before[0])
    layer = model.layers[-1]
    layer.adapter, layer.norm1, layer.gate = None, nn.LayerNorm(24), nn.Parameter(torch.ones(2))  # its own
    for module in model.modules():
        module.note = 'set on all'
    assert layer.note == 'set on all'


def test_quantized_it_runs():
    """torch's notes a setting on every module."""
    model = build_scalenet('mmpretrain-vit').eval()
    quantized = torch.ao.quantization.quantize_dynamic(model, {nn.Linear})
    torch.testing.assert_close(flatten(quantized(image())), flatten(model(image())), rtol=0.1, atol=0.1)


def test_with_the_cores_input_what_is_iterated_shows_them_too():
    layers = build_scalenet('mmpretrain-vit', inject=True).layers
    calls = list(layers)
    for call, position in zip(calls, layers[:], strict=True):
        call.seen = 1
        assert position.seen == 1
    assert [call.attn for call in calls] == [layer.attn for layer in layers[:]] and callable(copy.copy(calls[0]))
    assert calls[4].position is layers[4]


def test_a_block_alone_is_the_parents():
    """But for what was switched off: drop path, and the residual of the FFN, which positions add."""
    parent, model = build_parent('mmpretrain-vit'), build_scalenet('mmpretrain-vit').eval()
    parent.eval()
    block, theirs = model.layers.blocks[0], parent.layers[0]
    assert isinstance(block, TransformerEncoderLayer)
    block.load_state_dict(theirs.state_dict())
    theirs.ffn.add_identity = False
    x = torch.randn(2, 5, 24)
    assert torch.equal(block(x), theirs(x))


@every_parent
@pytest.mark.parametrize('options', [{}, dict(adapter=dict(type='LoRA', rank=2)), dict(inject=True, gate='1/N')])
def test_hooks_fire_at_every_use(name, options):
    model, fired, inputs = build_scalenet(name, **options), Counter(), {}

    def hook(module: nn.Module, args: tuple, output: Tensor, *, key: str) -> None:
        fired[key] += 1
        inputs[key] = args

    for key, module in model.named_modules():
        module.register_forward_hook(functools.partial(hook, key=key))
    model(image())
    assert {key: fired[key] for key in position_names(model)} == dict.fromkeys(position_names(model), 1)
    assert {key: fired[key] for key in block_names(model)} == dict.fromkeys(block_names(model), 2)
    norm = 'ln1' if name in ('mmpretrain-vit', 'mmpretrain-distilled', 'mmseg-vit') else 'norm1'
    for key in block_names(model):
        assert {fired[f'{key}.{part}'] for part in ('attn', 'ffn', norm)} == {2}
        # what the parent hands its blocks and nothing else
        assert all(isinstance(given, Tensor if i == 0 else tuple) for i, given in enumerate(inputs[key]))
    assert {fired[f'{key}.adapter'] for key in position_names(model)} == {1}
    fired.clear()
    model.set_depth(model.runnable_depths()[0])
    model(image())
    assert {fired[key] for key in block_names(model)} == {1}


def test_hooks_of_deit_tiny():
    model, fired = mmscalenet.ScaleNetDeiT(arch='deit-tiny', img_size=32, scale=2), Counter()
    for kind, modules in (('position', model.layers), ('block', model.layers.blocks),
                          ('part', [block.ffn for block in model.layers.blocks])):
        for module in modules:
            module.register_forward_hook(lambda *_, kind=kind: fired.update([kind]))
    model(torch.zeros(1, 3, 32, 32))
    assert len(model.layers) == 24 and len(model.layers.blocks) == 12
    assert fired == dict(position=24, block=24, part=24)


def test_a_hook_changes_what_a_block_is_given_and_gives():
    """The position's part is still run."""
    model = randomise(build_scalenet('mmpretrain-vit')).eval()
    x = torch.randn(2, 5, 24)
    expected = model.layers[5](2 * x) + 1
    model.layers.blocks[1].register_forward_pre_hook(lambda module, args: 2 * args[0])
    model.layers.blocks[1].register_forward_hook(lambda module, args, output: output + 1)
    assert torch.equal(model.layers[5](x), expected)


def test_hooks_of_a_block_whose_inside_is_unknown():
    """LoRA replaces tensors of the whole block: it is called once all the same."""
    model = randomise(mmscalenet.expand(BEiT(img_size=32, patch_size=8, embed_dims=24, num_layers=2, num_heads=2,
                                             out_indices=(0, 1)), adapter=dict(type='LoRA', rank=2))).eval()
    fired = Counter()
    expected = flatten(model(image((32, 32))))
    for key, module in model.named_modules():
        module.register_forward_hook(lambda *_, key=key: fired.update([key]))
    outputs = flatten(model(image((32, 32))))
    assert all(torch.equal(a, b) for a, b in zip(outputs, expected, strict=True))
    assert {fired[f'layers.{i}{part}'] for i in range(2) for part in ('', '.attn', '.ffn')} == {2}
    assert {fired[f'layers.positions.{p}'] for p in range(4)} == {1}


@both_families
def test_one_use_is_picked_by_its_name(name):
    """As tools for class-activation maps do: activations and gradients of a module found by name. The deployed net, in
    which every use is a block of its own, says what they are."""
    model = randomise(build_scalenet(name)).eval()
    deployed = copy.deepcopy(model).switch_to_deploy()
    list_name, positions = list(position_lists(model).items())[0]
    p = len(positions) - 1  # the second use of the last block
    results = []
    for net, target in ((model, f'{list_name}.positions.{p}'), (deployed, f'{list_name}.{p}')):
        seen = []
        dict(net.named_modules())[target].register_forward_hook(
            lambda module, args, output, seen=seen: seen.append(output) or output.retain_grad())
        sum(output.square().sum() for output in flatten(net(image()))).backward()
        results.append(seen)
    (ours, ), (theirs, ) = results
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-3)
    assert ours.grad.abs().sum() > 0


@both_families
@pytest.mark.parametrize('options', [{}, dict(adapter=dict(type='LoRA', rank=2), unshare='norms'),
                                     dict(gate='1/N', inject=True, drop_path_rate=0.3)])
@pytest.mark.parametrize('names', [block_names, position_names])
def test_activation_checkpointing_of_mmengine(name, options, names):
    """It is reentrant; without DistributedDataParallel a block that runs twice is no trouble for it."""
    plain = randomise(build_scalenet(name, **options)).train()
    checkpointed = copy.deepcopy(plain)
    turn_on_activation_checkpointing(checkpointed, names(checkpointed))
    kept, less = assert_same_step(plain, checkpointed)
    assert less < kept / 3


def test_activation_checkpointing_of_a_runner(cls_fields, tmp_path):
    cls_fields['train_cfg'] = dict(by_epoch=True, max_epochs=1)
    cls_fields['model']['backbone']['drop_path_rate'] = 0.2
    for key in [key for key in cls_fields if key.startswith(('val', 'test'))]:
        del cls_fields[key]
    weights, kept = [], []
    for number, extra in enumerate(({}, dict(activation_checkpointing=['backbone.layers.0', 'backbone.layers.1']))):
        fields = cls_fields | extra | dict(work_dir=str(tmp_path / str(number)), experiment_name=f'run{number}')
        model = Runner.from_cfg(Config(copy.deepcopy(fields))).train()
        weights.append(copy.deepcopy(model.state_dict()))
        kept.append(trained(model.backbone.train())[0])
    assert kept[1] < kept[0] / 3
    for key, value in weights[0].items():
        torch.testing.assert_close(weights[1][key], value, rtol=1e-4, atol=1e-6)


@both_families
@pytest.mark.parametrize('kind', ['blocks', 'positions'])
def test_checkpoint_wrappers_of_torch(name, kind):
    plain = randomise(build_scalenet(name, gate='1/N', drop_path_rate=0.3)).train()
    checkpointed = copy.deepcopy(plain)
    wanted = Position if kind == 'positions' else (TransformerEncoderLayer, SwinBlock)
    apply_activation_checkpointing(checkpointed, check_fn=lambda module: isinstance(module, wanted))
    for model in (plain, checkpointed):
        model.set_depth(model.runnable_depths()[-2])
    kept, less = assert_same_step(plain, checkpointed)
    assert less < kept / 3


def with_part(model: nn.Module, part: str, tool: str) -> nn.Module:
    """A copy of the net that checkpoints a part of every block."""
    model = copy.deepcopy(model)
    names = [f'{block}.{part}' for block in block_names(model)]
    if tool == 'mmengine':
        turn_on_activation_checkpointing(model, names)
    else:
        parts = [model.get_submodule(name) for name in names]
        apply_activation_checkpointing(model, check_fn=lambda module: any(module is part for part in parts))
    return model


both_tools = pytest.mark.parametrize('tool', ['mmengine', 'torch'])


@both_tools
@pytest.mark.parametrize('part', ['attn', 'ffn'])
@pytest.mark.parametrize('build', [
    lambda: build_scalenet('mmpretrain-vit', adapter=dict(type='LoRA', rank=2)),
    lambda: mmscalenet.expand(build_family('mmseg-mit')),
    lambda: mmscalenet.expand(build_family('mmseg-mit'), adapter=None, gate=0.5)], ids=['lora', 'visit', 'gate'])
def test_a_part_that_would_be_recomputed_without_its_position_is_refused(build, part, tool):
    """Its gradients were wrong. Also in a copy of a net that has been trained."""
    plain = build().train()
    trained(plain)
    checkpointed = with_part(plain, part, tool)
    with pytest.raises(RuntimeError, match=f'{part} of a .* is checkpointed by itself.*checkpoint the whole block, or'):
        trained(checkpointed)


@both_tools
@pytest.mark.parametrize('part', ['attn', 'ffn'])
def test_a_part_that_is_the_same_at_every_use_may_be_checkpointed(part, tool):
    plain = randomise(build_scalenet('mmpretrain-vit')).train()
    kept, less = assert_same_step(plain, with_part(plain, part, tool))
    assert less < kept


def test_two_images_are_recomputed_with_their_own_positions():
    """Both forwards before any backward, and a depth set in between."""
    def step(model: nn.Module) -> list[Tensor]:
        losses = []
        for depth in (8, 5):
            model.set_depth(depth)
            losses.append(model(image())[0].square().sum())
        sum(losses).backward()
        return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]

    plain = randomise(build_scalenet('mmpretrain-vit', inject=True)).train()
    checkpointed = copy.deepcopy(plain)
    turn_on_activation_checkpointing(checkpointed, block_names(checkpointed))
    for ours, theirs in zip(step(checkpointed), step(plain), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_copies_run_their_own_blocks():
    model = randomise(build_scalenet('mmpretrain-vit')).eval()
    x = torch.randn(1, 5, 24)
    expected = model.layers[5](x)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert all(position.block is other.layers.blocks[p % 4] for p, position in enumerate(other.layers))
        assert type(other.layers.blocks[0]) is type(model.layers.blocks[0])
    one = copy.deepcopy(model.layers[5])
    assert torch.equal(one(x), expected) and one.block is not model.layers.blocks[1]
    names = [name for name, _ in model.named_modules(remove_duplicate=False)]
    assert len(names) == len(list(model.modules()))


@pytest.mark.skipif(digit_version(torch.__version__) < digit_version('2.2'),
                    reason='it counts for modules that it is given alone')
@both_families
def test_flops_are_those_of_every_use(name):
    # the parent's own attention, as the counter does not see into torch's fused one on every device
    model, counts = build_scalenet(name, adapter=None, **dict(sdpa=False) if 'swin' in name else {}), {}
    for depth in (model.runnable_depths()[0], model.runnable_depths()[-1]):
        model.set_depth(depth)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model.eval()(image())
        by_module = {key: sum(value.values()) for key, value in counter.get_flop_counts().items()}
        counts[depth] = by_module
        root = type(model).__name__
        for list_name, positions in position_lists(model).items():
            per_block = [by_module[f'{root}.{list_name}.{i}'] for i in range(positions.num_blocks)]
            per_position = [by_module[f'{root}.{list_name}.positions.{p}'] for p in positions.running]
            assert sum(per_block) == sum(per_position) > 0
    one, two = counts.values()
    key = f'{root}.{block_names(model)[0]}'
    assert two[key] == 2 * one[key]
    parent = build_parent(name)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        parent(image())
    assert counter.get_total_flops() == one['Global']


def test_what_the_libraries_own_tests_look_at():
    """Those of mmpretrain, mmdet and mmseg: blocks by index, their parts with the rates of drop path, ``with_cp``."""
    for name, layer in (('mmpretrain-swin', PretrainSwinBlock), ('mmdet-swin', SwinBlock)):
        swin = build_scalenet(name, with_cp=True, drop_path_rate=0.2, scale=1, adapter=None)
        blocks = [stage.blocks[i] for stage in swin.stages for i in range(len(stage.blocks))]
        assert [block.with_cp for block in blocks] == [True] * 10
        assert [module.with_cp for module in swin.modules() if isinstance(module, layer)] == [True] * 10
        for i, block in enumerate(blocks):
            assert block.ffn.dropout_layer.drop_prob == pytest.approx(0.2 / 9 * i)
            assert block.attn.drop.drop_prob == pytest.approx(0.2 / 9 * i)
    deit = build_scalenet('mmpretrain-vit', drop_path_rate=0.1, scale=1, adapter=None)
    for i, layer in enumerate(deit.layers):
        assert (layer.attn.embed_dims, layer.attn.num_heads, layer.ffn.feedforward_channels) == (24, 2, 48)
        assert layer.attn.out_drop.drop_prob == pytest.approx(0.1 / 3 * i)
        assert layer.ffn.dropout_layer.drop_prob == pytest.approx(0.1 / 3 * i)


CAM_MODELS = {
    'deit': dict(backbone=dict(type='mmscalenet.ScaleNetDeiT', arch=DEIT_ARCH, img_size=32, patch_size=8, scale=2),
                 head=dict(type='VisionTransformerClsHead', num_classes=2, in_channels=24)),
    'swin': dict(backbone=dict(type='mmscalenet.ScaleNetSwin', scale=2, img_size=32, patch_size=2, window_size=4,
                               arch=dict(embed_dims=8, depths=[2, 2], num_heads=[1, 2]), out_indices=(1, )),
                 neck=dict(type='GlobalAveragePooling'),
                 head=dict(type='LinearClsHead', num_classes=2, in_channels=16)),
}


@pytest.mark.parametrize('family, place, extra', [
    ('deit', 'backbone.layers', []), ('swin', 'backbone.stages.1.blocks', ['--num-extra-tokens', '0'])])
def test_vis_cam_of_mmpretrain(family, place, extra, cls_fields, write_config, tiny_data, tmp_path, monkeypatch):
    """Its pictures of both uses of a block are those of two blocks of the deployed net."""
    GradCAM = pytest.importorskip('pytorch_grad_cam', reason='needs pip install grad-cam').GradCAM  # noqa: N806
    cls_fields['model'].update(CAM_MODELS[family])
    config = write_config(cls_fields)
    torch.save(dict(state_dict=randomise(get_model(str(config))).state_dict()), tmp_path / 'model.pth')
    script = Path(inspect.getfile(mmpretrain)).parent / '.mim/tools/visualization/vis_cam.py'
    if 'use_cuda=' in script.read_text() and 'use_cuda' not in inspect.signature(GradCAM.__init__).parameters:
        pytest.skip('the original mmpretrain needs grad-cam below 1.5')

    def picture(target: str) -> np.ndarray:
        out = tmp_path / f'{target}.png'
        monkeypatch.setattr(sys, 'argv', [
            'vis_cam.py', str(tiny_data / 'cls/class0/0.png'), str(config), str(tmp_path / 'model.pth'),
            '--target-layers', target, '--target-category', '0', '--vit-like', '--save-path', str(out), *extra])
        runpy.run_path(str(script), run_name='__main__')
        return np.asarray(Image.open(out)).astype(int)

    uses = USES[family]
    ours = [picture(f'{place}.positions.{p}') for p in uses]
    monkeypatch.setattr('mmpretrain.apis.get_model', deployed_model)
    theirs = [picture(f'{place}.{p}') for p in uses]
    for one, other in zip(ours, theirs, strict=True):
        assert abs(one - other).max() <= 2
    assert abs(ours[0] - ours[1]).mean() > 5


USES = dict(deit=(1, 5), swin=(0, 2))


def deployed_model(*args, **kwargs) -> nn.Module:
    model = get_model(*args, **kwargs)
    model.backbone.switch_to_deploy()
    return model


@pytest.mark.skipif(digit_version(torch.__version__) < digit_version('2.2'), reason='its compiler refuses the loop')
def test_a_copy_of_a_compiled_backbone_runs_its_own_weights():
    ours = build_scalenet('mmpretrain-vit').eval()
    ours.compile(backend='eager')
    expected = flatten(ours(image()))
    other = pickle.loads(pickle.dumps(ours))
    assert all(map(torch.equal, flatten(other(image())), expected))
    randomise(other, seed=3)
    assert not any(map(torch.equal, flatten(other(image())), expected))
    assert all(map(torch.equal, flatten(ours(image())), expected))
