"""Muon by stacks of kernels moves the weights as torch's own does, and goes on with what that has saved."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from model.training.muon import StackedMuon

SHAPES = [(8, 32), (32, 8), (16, 16), (8, 32), (32, 8), (8, 32)]
RATE, DECAY = 1e-3, 0.1
HALF, SINGLE = torch.bfloat16, torch.float32


def kernels(seed: int = 0) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]


def with_gradients(weights: list[nn.Parameter], step: int) -> None:
    generator = torch.Generator().manual_seed(100 + step)
    for weight in weights:
        weight.grad = torch.randn(weight.shape, generator=generator)


def torchs(weights: list[nn.Parameter]) -> torch.optim.Muon:
    return torch.optim.Muon(weights, lr=RATE, weight_decay=DECAY, adjust_lr_fn="match_rms_adamw")


@pytest.mark.parametrize(
    ("dtype", "atol"), [(HALF, 1e-5), (SINGLE, 5e-5)], ids=["bf16", "fp32"]
)  # torch rounds to bf16
def test_weights_agree_with_torchs_own(dtype: torch.dtype, atol: float) -> None:
    ours, theirs, start = kernels(), kernels(), kernels()
    optimizers = (StackedMuon(ours, lr=RATE, weight_decay=DECAY, dtype=dtype), torchs(theirs))
    for step in range(3):
        for weights, optimizer in zip((ours, theirs), optimizers, strict=True):
            with_gradients(weights, step)
            optimizer.step()
    for our, their, before in zip(ours, theirs, start, strict=True):
        assert (our - before).abs().max() > 1e-4
        assert torch.allclose(our, their, rtol=0, atol=atol)


def test_it_goes_on_with_what_torchs_own_has_saved_and_the_other_way_round() -> None:
    theirs = kernels()
    first = torchs(theirs)
    with_gradients(theirs, 0)
    first.step()
    ours = [nn.Parameter(weight.detach().clone()) for weight in theirs]
    second = StackedMuon(ours, lr=RATE, weight_decay=DECAY, dtype=HALF)
    second.load_state_dict(deepcopy(first.state_dict()))
    again = [nn.Parameter(weight.detach().clone()) for weight in theirs]
    third = torchs(again)
    third.load_state_dict(deepcopy(second.state_dict()))
    for weights, optimizer in ((theirs, first), (ours, second), (again, third)):
        with_gradients(weights, 1)
        optimizer.step()
    for one, other, another in zip(theirs, ours, again, strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-5)
        assert torch.equal(one, another)


def test_a_kernel_without_a_gradient_stays_where_it_is() -> None:
    weights = kernels()
    before = weights[0].detach().clone()
    optimizer = StackedMuon(weights, lr=RATE, weight_decay=DECAY)
    with_gradients(weights[1:], 0)
    optimizer.step()
    assert torch.equal(weights[0], before)


def test_a_closure_is_asked_for_the_loss() -> None:
    weights = kernels()
    optimizer = StackedMuon(weights, lr=RATE, weight_decay=DECAY)

    def closure() -> float:
        assert torch.is_grad_enabled()
        with_gradients(weights, 0)
        return 7.0

    assert optimizer.step(closure) == 7.0
