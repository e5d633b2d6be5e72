"""Whether a run still gets better."""

import pytest

from model.training.start.gain import epochs_without_gain


@pytest.mark.parametrize(
    ("losses", "top1s", "expected"),
    [
        ([], [], 0),
        ([1.0], [0.5], 0),
        ([1.0, 0.9], [0.5, 0.5], 0),
        ([1.0, 1.1], [0.5, 0.6], 0),
        ([1.0, 1.1, 1.2], [0.5, 0.5, 0.4], 2),
        ([1.0, 1.1, 0.9, 0.9], [0.5, 0.5, 0.4, 0.5], 1),
    ],
    ids=["nothing", "first", "lower-loss", "higher-accuracy", "neither", "equal-is-no-gain"],
)
def test_an_epoch_gains_by_a_lower_loss_or_a_higher_accuracy_than_ever(
    losses: list[float], top1s: list[float], expected: int
):
    history = [{"val_loss": loss, "val_top1": top1} for loss, top1 in zip(losses, top1s, strict=True)]
    assert epochs_without_gain(history) == expected
