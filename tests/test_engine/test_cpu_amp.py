"""Mixed precision on a CPU."""
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from mmscalenet.engine import CPUAmpOptimWrapper


def make() -> tuple[nn.Module, CPUAmpOptimWrapper]:
    model = nn.Linear(4, 4)
    return model, CPUAmpOptimWrapper(optimizer=torch.optim.SGD(model.parameters(), lr=0.1), loss_scale='dynamic',
                                     dtype='float16', use_fp64=True)


def test_autocasts_and_accumulates():
    model, wrapper = make()
    before = model.weight.detach().clone()
    wrapper._accumulative_counts = 2
    for step in range(2):
        with wrapper.optim_context(model):
            output = model(torch.ones(2, 4))
        assert output.dtype == torch.bfloat16
        wrapper.update_params(output.float().sum())
        assert torch.equal(model.weight, before) == (step == 0)
    assert model.weight.dtype == torch.float32


def test_gradients_of_norms_are_summed_in_float32():
    _, wrapper = make()
    norm = nn.LayerNorm(8)

    def double(x: torch.Tensor) -> torch.Tensor:
        return norm(x) + norm(checkpoint(norm, x, use_reentrant=False))

    x = torch.randn(4096, 8, dtype=torch.bfloat16, requires_grad=True)
    with wrapper.optim_context(norm):
        double(x).sum().backward()
    found = norm.bias.grad.clone()
    norm.zero_grad()
    double(x.float()).sum().backward()
    torch.testing.assert_close(found, norm.bias.grad)


def test_takes_a_state_from_a_gpu():
    _, wrapper = make()
    state = wrapper.state_dict() | dict(loss_scaler=dict(scale=65536.))
    state['param_groups'][0]['lr'] = 0.5
    make()[1].load_state_dict(state)
    wrapper.load_state_dict(state)
    assert wrapper.param_groups[0]['lr'] == 0.5
    assert 'loss_scaler' in state, 'the caller\'s dict was changed'
