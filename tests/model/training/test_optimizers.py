from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from model.network.mixer import MlpMixer
from model.training.optimizers import build_optimizers, moving_average, sam_perturbation
from tests.model.toys import random_mixer, toy_config, toy_recipe

KINDS = ("adamw", "adam", "sgd", "muon")
RATE = 0.1


class _StopError(Exception):
    """Something that goes wrong inside."""


def _built(kind: str, **changes: Any) -> tuple[MlpMixer, list[torch.optim.Optimizer]]:
    model = random_mixer(toy_config())
    recipe = toy_recipe(**{"optimizer": kind, "learning_rate": RATE, "weight_decay": 0.0, **changes})
    return model, build_optimizers(model, recipe)


def _step(model: MlpMixer, optimizers: list[torch.optim.Optimizer], gradient: float) -> None:
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, gradient)
    for optimizer in optimizers:
        optimizer.step()


def _copies(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("kind", KINDS)
def test_every_optimiser_moves_every_parameter_down_its_gradient(kind: str) -> None:
    model, optimizers = _built(kind)
    before = _copies(model)
    _step(model, optimizers, 0.5)
    assert not [name for name, parameter in _copies(model).items() if not (parameter < before[name]).all()]


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_is_one_optimisers_at_the_recipes_rate(kind: str) -> None:
    model, optimizers = _built(kind)
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    held = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(held) == sorted(id(parameter) for parameter in model.parameters())
    assert {group["lr"] for group in groups} == {RATE}


@pytest.mark.parametrize("kind", KINDS)
def test_weight_decay_is_for_kernels_only(kind: str) -> None:
    model, optimizers = _built(kind, weight_decay=0.5)
    before = _copies(model)
    _step(model, optimizers, 0.0)
    for name, parameter in _copies(model).items():
        shrunk = before[name] * (1 - RATE * 0.5)
        if kind == "adam":  # the decay is its gradient, of which it sees only the sign
            shrunk = before[name] - RATE * before[name].sign()
        torch.testing.assert_close(parameter, shrunk if parameter.ndim == 2 else before[name], rtol=0, atol=1e-5)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_sgd_has_the_recipes_momentum(momentum: float) -> None:
    model, optimizers = _built("sgd", momentum=momentum)
    before = _copies(model)
    for _ in range(2):
        _step(model, optimizers, 1.0)
    moved = 1 + (1 + momentum)  # the second step goes on with a share of the first
    for name, parameter in _copies(model).items():
        torch.testing.assert_close(parameter, before[name] - RATE * moved, rtol=0, atol=1e-5)


# --- climbed ---


def _with_gradients() -> MlpMixer:
    model = random_mixer(toy_config())
    generator = torch.Generator().manual_seed(5)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    return model


@pytest.mark.parametrize("rho", [0.05, 2.0])
def test_climbing_goes_up_the_gradient_by_rho_over_all_parameters_together(rho: float) -> None:
    model = _with_gradients()
    before = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    gradient = torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None])
    with sam_perturbation(model.parameters(), rho):
        moved = nn.utils.parameters_to_vector(model.parameters()).detach() - before
    torch.testing.assert_close(moved, rho * gradient / gradient.norm(), rtol=0, atol=1e-6)
    assert moved.norm().item() == pytest.approx(rho, rel=1e-4)


@pytest.mark.parametrize("failing", [False, True])
def test_the_very_same_values_are_back_after_climbing_whatever_happens_up_there(failing: bool) -> None:
    model = _with_gradients()
    before = _copies(model)
    expectation = pytest.raises(_StopError) if failing else nullcontext()
    with expectation, sam_perturbation(model.parameters(), 1e4):
        assert not torch.equal(model.head.weight, before["head.weight"])
        model.zero_grad()
        if failing:
            raise _StopError
    assert not [name for name, parameter in _copies(model).items() if not torch.equal(parameter, before[name])]


def test_what_has_no_gradient_stays_where_it_is() -> None:
    moved, still = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    moved.grad = torch.tensor([0.0, 3.0, 4.0])
    with sam_perturbation(iter([still, moved]), 0.5):
        assert torch.equal(still, torch.ones(3))
        torch.testing.assert_close(moved.detach(), torch.tensor([1.0, 1.3, 1.4]))


def test_without_any_slope_there_is_nowhere_to_climb() -> None:
    flat = nn.Parameter(torch.ones(3))
    flat.grad = torch.zeros(3)
    with sam_perturbation([flat], 0.5):
        assert torch.equal(flat, torch.ones(3))


def test_up_there_the_loss_is_as_bad_as_it_gets_within_rho() -> None:
    def loss(at: Tensor) -> Tensor:
        return 2 * ((at - torch.tensor([1.0, -2.0])) ** 2).sum(-1)

    place = nn.Parameter(torch.tensor([0.3, 0.4]))
    loss(place).backward()  # type: ignore[no-untyped-call]
    angles = torch.linspace(0, 2 * torch.pi, 1000)
    around = place.detach() + 0.5 * torch.stack([angles.cos(), angles.sin()], dim=1)
    with sam_perturbation([place], 0.5):
        assert loss(place).item() == pytest.approx(loss(around).max().item(), rel=1e-4)


def _where_it_ends(rho: float) -> float:
    """From the side of a narrow, deep valley at 0, beside a wide and shallower one at 2."""
    place = nn.Parameter(torch.tensor([0.1]))
    optimizer = torch.optim.SGD([place], lr=0.005)

    def descend() -> None:
        optimizer.zero_grad()
        torch.minimum(50 * place**2, 0.5 * (place - 2) ** 2 + 0.01).sum().backward()

    for _ in range(200):
        descend()
        if rho:
            with sam_perturbation([place], rho):
                descend()
        optimizer.step()
    return place.item()


def test_climbing_first_does_not_settle_in_a_valley_narrower_than_rho() -> None:
    assert abs(_where_it_ends(0.0)) < 0.01
    assert _where_it_ends(0.3) > 2 / 11  # where the wide one begins


# --- the moving average ---


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.998])
def test_the_average_moves_as_an_exponential_one_whose_first_steps_count_for_more(decay: float) -> None:
    model = random_mixer(toy_config())
    average = moving_average(model, decay)
    expected = _copies(model)
    for step in range(12):
        moved = random_mixer(toy_config(), seed=step + 1)
        average.update_parameters(moved)
        rate = min(decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(expected.values()), [tensor for _, tensor in moved.named_parameters()], 1 - rate)
    found = dict(average.module.named_parameters())
    assert not [name for name, tensor in expected.items() if not torch.equal(found[name], tensor)]


def test_the_average_starts_as_the_network_and_leaves_it_alone() -> None:
    model = random_mixer(toy_config())
    before, average = _copies(model), moving_average(model, 0.5)
    average.update_parameters(random_mixer(toy_config(), seed=1))
    assert not average.training
    assert not [name for name, tensor in _copies(model).items() if not torch.equal(tensor, before[name])]
