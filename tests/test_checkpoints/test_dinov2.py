"""Official files of DINOv2, which timm's own converter brings into timm's ViT; DINOv3 is refused."""
from functools import partial

import pytest
import timm.layers
import timm.models.eva
import timm.models.vision_transformer as timm_vits
import torch
from checkpoint_zoo import VIT, maps, mmpretrain_vit, randomise, timm_vit

import mmscalenet
from mmscalenet.checkpoints import CheckpointError, load_pretrained

SCALED = dict(init_values=1.)
#: 88 hidden channels: two thirds of 128, rounded up to a multiple of 8
GIANT = dict(**SCALED, mlp_layer=timm.layers.SwiGLUPacked, mlp_ratio=5.5, act_layer=torch.nn.SiLU)
REGISTERS = dict(**SCALED, reg_tokens=4, no_embed_class=True)


def build(**kwargs) -> mmscalenet.ScaleNetDeiT:
    return mmscalenet.ScaleNetDeiT(**dict(
        arch=dict(**VIT, feedforward_channels=128), img_size=32, patch_size=8, layer_scale_init_value=1.,
        out_type='featmap', gate=0.) | kwargs)


def official(model: torch.nn.Module, seed: int = 3) -> dict[str, torch.Tensor]:
    """A random file with the names and shapes of facebookresearch/dinov2's, for a model of timm."""
    state = {name: value for name, value in model.state_dict().items() if not name.startswith('head')}
    if 'reg_token' in state:
        state['register_tokens'] = state.pop('reg_token')
        state['pos_embed'] = torch.empty(1, 17, 32)
    if isinstance(model.blocks[0].mlp, timm.layers.GluMlp):
        state = {name.replace('mlp.fc1', 'mlp.w12').replace('mlp.fc2', 'mlp.w3'): value
                 for name, value in state.items()}
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(value.shape, generator=generator) * .15 + (value.dim() == 1)
            for name, value in {**state, 'mask_token': torch.empty(1, 32)}.items()}


@pytest.mark.parametrize(('source', 'options'), [
    (SCALED, {}), (GIANT, dict(layer_cfgs=dict(ffn_type='swiglu_fused'))), (REGISTERS, dict(num_register_tokens=4))
], ids=['plain', 'giant', 'registers'])
def test_output_equals_timms(source, options):
    model, backbone = timm_vit(**source), build(**options)
    file = official(model)
    model.load_state_dict({**model.state_dict(), **timm_vits._convert_dinov2(dict(file), model)})
    model.eval()
    report = load_pretrained(backbone, file)
    assert report.ignored == ['mask_token'] and all('.positions.' in name for name in report.newly_initialised)
    expected, = maps(model, 'vit')
    assert expected.std() > .1
    torch.testing.assert_close(maps(backbone, 'vit')[0], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('class_token', [True, False])
def test_registers_of_timm(class_token):
    """Its tokens have no rows of the position embedding, and it has nets of registers without a class token."""
    pool = dict() if class_token else dict(class_token=False, global_pool='avg', fc_norm=False)
    model = randomise(timm_vit(**REGISTERS, **pool))
    backbone = build(num_register_tokens=4, with_cls_token=class_token)
    load_pretrained(backbone, model.state_dict())
    torch.testing.assert_close(maps(backbone, 'vit')[0], maps(model, 'vit')[0], atol=1e-5, rtol=1e-5)


def test_registers_are_neither_lost_nor_made_up():
    file = official(timm_vit(**REGISTERS))
    without = {name: value for name, value in file.items() if name != 'register_tokens'}
    for model in build(), mmpretrain_vit(layer_scale_init_value=1.):
        with pytest.raises(CheckpointError, match=r'no place for register_tokens \(.* num_register_tokens=4, or as '):
            load_pretrained(model, file)
    with pytest.raises(CheckpointError, match=r'lacks register_tokens \(give the backbone num_register_tokens=0\)'):
        load_pretrained(build(num_register_tokens=4), without)
    with pytest.raises(CheckpointError, match=r'register_tokens \(1, 4, 32\) in the file, \(1, 2, 32\) in the model'):
        load_pretrained(build(num_register_tokens=2), file)


def test_another_image_size_leaves_the_registers():
    file = official(timm_vit(**REGISTERS))
    plain, backbone = build(img_size=48), build(img_size=48, num_register_tokens=4)
    load_pretrained(plain, {name: value for name, value in file.items() if name != 'register_tokens'})
    report = load_pretrained(backbone, file)
    assert report.resized == {'pos_embed': '4x4 to 6x6 patches'}
    assert backbone.pos_embed.equal(plain.pos_embed) and backbone.register_tokens.equal(file['register_tokens'])


def official_dinov3() -> dict[str, torch.Tensor]:
    """The names of facebookresearch/dinov3's files."""
    state = official(timm_vit(**SCALED))
    del state['pos_embed']
    return {**state, 'storage_tokens': torch.ones(1, 4, 32), 'rope_embed.periods': torch.ones(4),
            **{f'blocks.{i}.attn.qkv.bias_mask': torch.ones(96) for i in range(3)}}


@pytest.mark.parametrize('file', [
    official_dinov3,
    lambda: {f'teacher.backbone.{name}': value for name, value in official_dinov3().items()},
    lambda: partial(timm.models.eva.Eva, img_size=32, patch_size=8, embed_dim=32, depth=3, num_heads=4, num_classes=0,
                    qkv_bias=False, use_abs_pos_emb=False, use_rot_pos_emb=True, rope_type='dinov3', init_values=1.,
                    num_reg_tokens=4)().state_dict(),
], ids=['official', 'in training', 'timm'])
def test_dinov3_is_refused(file):
    for model in build(), build(num_register_tokens=4):
        with pytest.raises(CheckpointError, match='a DINOv3, whose rotary positions no parent here has'):
            load_pretrained(model, file())
