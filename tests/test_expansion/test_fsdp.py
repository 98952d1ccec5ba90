"""FSDP around the class of the blocks: two real processes on CPU, against one that runs the whole batch."""
import os
import socket
from functools import partial

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmdet.models.backbones.swin import SwinBlock
from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer
from parents import build_scalenet, flatten, image, randomise
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel as FSDP
from torch.distributed.fsdp.wrap import transformer_auto_wrap_policy

LORA = dict(adapter=dict(type='LoRA', rank=2))
CASES = {
    'vit': ('mmpretrain-vit', TransformerEncoderLayer, {}),
    'recomputed': ('mmpretrain-vit', TransformerEncoderLayer, dict(with_cp=True)),
    'light': ('mmpretrain-vit', TransformerEncoderLayer, dict(with_cp='light')),
    'lora': ('mmpretrain-vit', TransformerEncoderLayer, LORA),
    'swin': ('mmdet-swin', SwinBlock, dict(gate='1/N', inject=True, unshare='norms')),
}


def build(case: str) -> tuple[nn.Module, type]:
    name, layer, options = CASES[case]
    return randomise(build_scalenet(name, drop_path_rate=0., **options)).train(), layer


def backward(model: nn.Module, images: Tensor) -> nn.Module:
    sum(output.square().mean() for output in flatten(model(images))).backward()
    return model


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name.replace('_fsdp_wrapped_module.', ''): getattr(p.grad, 'full_tensor', p.grad.clone)()
            for name, p in model.named_parameters() if p.grad is not None}


def wrap(model: nn.Module, layer: type, **kwargs) -> FSDP:
    policy = partial(transformer_auto_wrap_policy, transformer_layer_cls={layer})
    wrapped = FSDP(model, auto_wrap_policy=policy, device_id=torch.device('cpu'), **kwargs)
    assert sum(isinstance(module, FSDP) for module in wrapped.modules()) > 4, 'blocks are not wrapped'
    return wrapped


def shard(rank: int, port: int, folder: str) -> None:
    """One of the processes, which has half of the batch."""
    from torch.distributed.fsdp import fully_shard
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
    dist.init_process_group('gloo', rank=rank, world_size=2)
    mesh = dist.device_mesh.init_device_mesh('cpu', (2, ))
    half = image(batch=4)[2 * rank:2 * rank + 2]
    for case in CASES:
        model, layer = build(case)
        for block in [module for module in model.modules() if isinstance(module, layer)]:
            fully_shard(block, mesh=mesh)
        torch.save(gradients(backward(fully_shard(model, mesh=mesh), half)), f'{folder}/{case}_fully_shard_{rank}.pth')
        if case == 'lora':
            continue
        model = backward(wrap(*build(case), use_orig_params=True), half)
        with FSDP.summon_full_params(model, with_grads=True):
            torch.save(gradients(model), f'{folder}/{case}_fsdp_{rank}.pth')

    # of a flattened block LoRA finds the tensors, and says where it cannot replace them
    model, layer = build('lora')
    expected = model(half)[0].detach()
    assert torch.equal(wrap(model, layer)(half)[0], expected)
    with pytest.raises(RuntimeError, match='FSDP with use_orig_params=True keeps qkv.weight where'):
        wrap(*build('lora'), use_orig_params=True)(half)
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.skipif(torch.__version__ < '2.6', reason='FSDP on CPU and fully_shard need torch 2.6')
def test_gradients_are_those_of_one_process(tmp_path):
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        port = server.getsockname()[1]
    mp.spawn(shard, (port, str(tmp_path)), nprocs=2)
    for case in CASES:
        expected = gradients(backward(build(case)[0], image(batch=4)))
        files = sorted(tmp_path.glob(f'{case}_*.pth'))
        assert len(files) == (2 if case == 'lora' else 4)
        for file in files:
            result = torch.load(file)
            assert result.keys() == expected.keys()
            for name, grad in expected.items():
                assert grad.abs().sum() > 0, name
                torch.testing.assert_close(result[name], grad, rtol=0, atol=1e-4 * grad.abs().max().item() + 1e-7)
