"""A run that gains nothing any more ends, says so, and goes on only where it is told to."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.data.dataset import Dataset, ImageSet
from model.training.run_config import TrainCallbacks
from model.training.train import train
from tests.model.toys import random_pixels, toy_config, toy_images, toy_recipe, toy_spec

pytestmark = [pytest.mark.training, pytest.mark.timeout(60)]


def hopeless() -> Dataset:
    """Training pictures whose labels mean nothing for those to judge by, which have one label alone."""
    train_set, val = toy_images(40, 1), ImageSet(random_pixels(12, 8, 8, 1), np.zeros(12, dtype=np.int64))
    return Dataset(("light below", "light above"), train_set, val, None, "hopeless")


def notes(out: Path, dataset: Dataset, **changes: Any) -> tuple[list[str], int]:
    """What is said, and how many epochs the run has had."""
    heard: list[str] = []
    settings = {"epochs": 30, "learning_rate": 1e-9, "ema_decay": 0.0, **changes}
    made = train(
        dataset,
        toy_config(),
        toy_recipe(**settings),
        toy_spec(),
        out,
        callbacks=TrainCallbacks(on_note=heard.append),
    )
    return heard, len(made.training["history"])


def test_a_run_ends_after_epochs_that_were_no_better(tmp_path: Path) -> None:
    said, epochs = notes(tmp_path, hopeless(), patience=2, learning_rate=3e-2)
    assert epochs < 30
    assert said[-1] == (
        f"ended after {epochs} of 30 epochs: neither the loss nor the accuracy on the validation pictures was better "
        "for 2 epochs (--patience; 0 goes on to the end)"
    )


def test_without_patience_a_run_takes_all_of_its_epochs(tmp_path: Path) -> None:
    assert notes(tmp_path, hopeless(), patience=0, epochs=12)[1] == 12


def test_the_same_command_again_takes_no_further_step_and_without_patience_it_goes_on(tmp_path: Path) -> None:
    first = notes(tmp_path, hopeless(), patience=2, learning_rate=3e-2)[1]
    said, again = notes(tmp_path, hopeless(), patience=2, learning_rate=3e-2)
    assert again == first
    assert said == [
        f"{tmp_path} holds a run that has ended after {first} of 30 epochs: neither the loss nor the accuracy on the "
        "validation pictures was better for 2 epochs (--patience; 0 goes on to the end)"
    ]
    assert notes(tmp_path, hopeless(), patience=0, learning_rate=3e-2)[1] == 30


def test_balance_is_part_of_a_run(tmp_path: Path) -> None:
    images = toy_images(40, 1)
    rows = np.flatnonzero((images.labels == 0) | (np.arange(40) < 8))
    uneven = ImageSet(images.pixels[rows], images.labels[rows])
    dataset = Dataset(("light below", "light above"), uneven, toy_images(12, 2), None, "uneven")
    made = [
        train(dataset, toy_config(), toy_recipe(epochs=1, balance=balance), toy_spec(), tmp_path / str(balance))
        for balance in (0.0, 1.0)
    ]
    plain, balanced = (one.model.head.bias.detach().numpy() for one in made)
    assert balanced[1] - balanced[0] > plain[1] - plain[0]
