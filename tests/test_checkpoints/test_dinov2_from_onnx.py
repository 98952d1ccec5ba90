"""tools/model_converters/dinov2_from_onnx.py: a small file laid out as the real one, and (slow) the real one."""
import runpy
import sys
from pathlib import Path

import pytest
import torch

import mmscalenet

onnx = pytest.importorskip('onnx')
SCRIPT = Path(__file__).resolve().parents[2] / 'tools/model_converters/dinov2_from_onnx.py'
ARCH = dict(embed_dims=24, num_layers=2, num_heads=2, feedforward_channels=48)


@pytest.fixture
def convert(monkeypatch):
    def run(*args: object) -> None:
        monkeypatch.setattr(sys, 'argv', [SCRIPT.name, *map(str, args)])
        runpy.run_path(str(SCRIPT), run_name='__main__')

    return run


def build(**options) -> mmscalenet.ScaleNetDeiT:
    return mmscalenet.ScaleNetDeiT(**dict(scale=1, adapter=None, patch_size=14, layer_scale_init_value=1e-5) | options)


def write_onnx(model: torch.nn.Module, path: Path) -> None:
    """The weights of mmpretrain's ViT as transformers' exporter leaves them: matrices transposed and without names."""
    state, named, unnamed = model.state_dict(), {}, {}
    embeddings = 'backbone.embeddings.'
    named[f'{embeddings}cls_token'] = state['cls_token']
    for part in ('weight', 'bias'):
        named[f'{embeddings}patch_embeddings.projection.{part}'] = state[f'patch_embed.projection.{part}']
        named[f'backbone.layernorm.{part}'] = state[f'ln1.{part}']
    for i in range(2):
        ours, theirs = f'layers.{i}.', f'backbone.encoder.layer.{i}.'
        qkv = {part: state[f'{ours}attn.qkv.{part}'].chunk(3) for part in ('weight', 'bias')}
        linear = {f'attention.attention.{name}': (qkv['weight'][j], qkv['bias'][j])
                  for j, name in enumerate(('query', 'key', 'value'))}
        for name, source in (('attention.output.dense', 'attn.proj'), ('mlp.fc1', 'ffn.layers.0.0'),
                             ('mlp.fc2', 'ffn.layers.1')):
            linear[name] = state[f'{ours}{source}.weight'], state[f'{ours}{source}.bias']
        for name, (weight, bias) in linear.items():
            unnamed['/' + f'{theirs}{name}'.replace('layer.', 'layer@').replace('.', '/').replace('@', '.')] = weight.T
            named[f'{theirs}{name}.bias'] = bias
        for n, gamma in ((1, 'attn.gamma1.weight'), (2, 'ffn.gamma2.weight')):
            named[f'{theirs}layer_scale{n}.lambda1'] = state[ours + gamma]
            for part in ('weight', 'bias'):
                named[f'{theirs}norm{n}.{part}'] = state[f'{ours}ln{n}.{part}']
    tensors = named | {'onnx::Concat_9': state['pos_embed'][:, :1], 'onnx::Reshape_8': state['pos_embed'][:, 1:],
                       'decoder.final_conv.weight': torch.ones(1, 24, 1, 1)}
    nodes = []
    for number, (name, weight) in enumerate(unnamed.items()):
        tensors[f'onnx::MatMul_{number}'] = weight
        nodes.append(onnx.helper.make_node('MatMul', ['x', f'onnx::MatMul_{number}'], [f'y{number}'], f'{name}/MatMul'))
    graph = onnx.helper.make_graph(nodes, 'vit', [], [], [
        onnx.numpy_helper.from_array(tensor.contiguous().numpy(), name) for name, tensor in tensors.items()])
    onnx.save(onnx.helper.make_model(graph), path)


def test_every_tensor_comes_back(convert, tmp_path, capsys):
    source = build(arch=ARCH, img_size=56)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    write_onnx(source, tmp_path / 'vit.onnx')
    convert(tmp_path / 'new/dinov2.pth', '--src', tmp_path / 'vit.onnx')
    target = build(arch=ARCH, img_size=56,
                   init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'new/dinov2.pth')))
    target.init_weights()
    for name, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], value), name
    with pytest.raises(SystemExit):
        convert(tmp_path / 'new/dinov2.pth', '--src', tmp_path / 'vit.onnx')
    assert 'exists already' in capsys.readouterr().err


def test_a_file_of_something_else(convert, tmp_path, capsys):
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], 'none', [], [])), tmp_path / 'none.onnx')
    with pytest.raises(SystemExit):
        convert(tmp_path / 'dinov2.pth', '--src', tmp_path / 'none.onnx')
    assert 'holds no DINOv2' in capsys.readouterr().err and not (tmp_path / 'dinov2.pth').exists()


@pytest.mark.slow
def test_the_real_one_computes_what_onnx_runtime_does(convert, tmp_path):
    """Downloads the wheel."""
    runtime = pytest.importorskip('onnxruntime')
    script = runpy.run_path(str(SCRIPT))
    path = script['download'](tmp_path)
    convert(tmp_path / 'dinov2.pth', '--src', path)
    model = build(arch='dinov2-small', img_size=518, out_type='raw',
                  init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'dinov2.pth')))
    model.init_weights()
    graph = onnx.load(path)
    last = [node for node in graph.graph.node if node.name.startswith('/backbone/layernorm')][-1].output[0]
    graph.graph.output.append(onnx.helper.make_tensor_value_info(last, onnx.TensorProto.FLOAT, None))
    image = torch.randn(2, 3, 224, 224)
    session = runtime.InferenceSession(graph.SerializeToString())
    expected = torch.from_numpy(session.run([last], {'input_image': image.numpy()})[0])
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(image)[-1], expected, rtol=1e-4, atol=1e-4)
