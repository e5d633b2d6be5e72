from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from model.training.loss import summed_loss
from tests.model.toys import toy_recipe

COUNT, CLASSES = 6, 5
PLAIN = {"label_smoothing": 0.0}


def _logits(seed: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(COUNT, CLASSES, generator=torch.Generator().manual_seed(seed))


def _targets() -> Tensor:
    """Probabilities, as mixing leaves them."""
    return _logits(7).softmax(1)


def _loss(logits: Tensor, targets: Tensor, teacher_logits: Tensor | None = None, **changes: Any) -> Tensor:
    return summed_loss(logits, targets, teacher_logits, toy_recipe(**{**PLAIN, **changes}))


def _gradient(logits: Tensor, teacher_logits: Tensor, **changes: Any) -> Tensor:
    leaf = logits.clone().requires_grad_()
    _loss(leaf, _targets(), teacher_logits, **changes).backward()  # type: ignore[no-untyped-call]
    assert leaf.grad is not None
    return leaf.grad


def test_without_a_teacher_it_is_the_cross_entropy_summed_over_pictures() -> None:
    classes = torch.arange(COUNT) % CLASSES
    expected = functional.cross_entropy(_logits(1), classes, reduction="sum")
    found = _loss(_logits(1), functional.one_hot(classes, CLASSES).float(), distil_weight=0.7)
    torch.testing.assert_close(found, expected)


def test_label_smoothing_gives_all_classes_a_share_of_targets_that_are_already_soft() -> None:
    smoothed = 0.8 * _targets() + 0.2 / CLASSES
    expected = -(smoothed * _logits(1).log_softmax(1)).sum()
    torch.testing.assert_close(_loss(_logits(1), _targets(), label_smoothing=0.2), expected)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_a_teacher_alone_is_its_divergence_times_the_temperature_squared(temperature: float) -> None:
    pupil, teacher = _logits(1), _logits(2, 3)
    wanted, given = (teacher / temperature).softmax(1), (pupil / temperature).softmax(1)
    divergence = (wanted * (wanted.log() - given.log())).sum()
    found = _loss(pupil, _targets(), teacher, distil_weight=1.0, distil_temperature=temperature, label_smoothing=0.3)
    torch.testing.assert_close(found, temperature**2 * divergence)


def test_a_pupil_that_says_what_its_teacher_says_has_nothing_to_learn() -> None:
    settings = {"distil_weight": 1.0, "distil_temperature": 2.0}
    assert abs(_loss(_logits(1) + 5, _targets(), _logits(1), **settings)) < 1e-5
    assert _gradient(_logits(1), _logits(1), **settings).abs().max() < 1e-6


def test_the_weight_is_the_teachers_share() -> None:
    pupil, teacher = _logits(1), _logits(2)
    settings = {"label_smoothing": 0.1, "distil_temperature": 3.0}
    labels, teacher_logits = (
        _loss(pupil, _targets(), teacher, distil_weight=weight, **settings) for weight in (0.0, 1.0)
    )
    mixed = _loss(pupil, _targets(), teacher, distil_weight=0.3, **settings)
    torch.testing.assert_close(mixed, 0.7 * labels + 0.3 * teacher_logits)
    torch.testing.assert_close(labels, _loss(pupil, _targets(), None, **settings))


@pytest.mark.parametrize("temperature", [2.0, 8.0, 100.0])
def test_the_temperature_leaves_the_gradients_size_alone(temperature: float) -> None:
    pupil, teacher = _logits(1, 0.1), _logits(2, 0.1)  # so small that the softmax is nearly a straight line
    usual = _gradient(pupil, teacher, distil_weight=1.0, distil_temperature=1.0)
    found = _gradient(pupil, teacher, distil_weight=1.0, distil_temperature=temperature)
    torch.testing.assert_close(found, usual, rtol=0.1, atol=0.004)
    assert found.norm().item() == pytest.approx(usual.norm().item(), rel=0.1)


def test_no_pictures_lose_nothing_and_still_have_a_gradient() -> None:
    logits = torch.zeros(0, CLASSES, requires_grad=True)
    loss = _loss(logits, torch.zeros(0, CLASSES), torch.zeros(0, CLASSES), distil_weight=0.5)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0
    assert logits.grad is not None


def test_a_class_counts_in_the_loss_as_its_weight_says() -> None:
    targets = functional.one_hot(torch.tensor([0, 1, 2, 3, 4, 0]), CLASSES).float()
    weights = torch.tensor([1.0, 2.0, 0.0, 1.0, 3.0])
    recipe = toy_recipe(**PLAIN)
    own = [summed_loss(_logits(1)[[i]], targets[[i]], None, recipe) for i in range(COUNT)]
    expected = sum(weights[int(targets[i].argmax())] * own[i] for i in range(COUNT))
    assert torch.isclose(summed_loss(_logits(1), targets, None, recipe, weights), torch.as_tensor(expected))
