import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from model.recipe import RECIPES, Augmentation, Recipe, balanced, described, fitted
from model.training.schedule import learning_rate


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": 0},
        {"batch_size": -1},
        {"learning_rate": 0.0},
        {"optimizer": "lion"},
        {"autocast": "fp8"},
        {"decay": "step"},
        {"stochastic_depth": 1.0},
        {"distil_weight": 1.1},
        {"accumulate": 0},
        {"val_fraction": 1.0},
        {"label_smoothing": 1.0},
        {"clip_norm": 0.0},
        {"flip": 1.5},
        {"pad_crop": -0.1},
        {"no_such_setting": 1},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_an_impossible_setting_is_named(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        Recipe(**changes)
    assert caught.value.errors()[0]["loc"] == tuple(changes)


def test_every_setting_says_what_it_does() -> None:
    assert not [name for name, field in Recipe.model_fields.items() if not field.description]


def test_a_recipe_is_also_its_augmentation() -> None:
    assert set(Augmentation.model_fields) < set(Recipe.model_fields)


@pytest.mark.process
def test_a_recipe_can_be_read_without_torch() -> None:
    code = "import sys, model.recipe; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_one_that_flags_could_have_given(name: str) -> None:
    assert Recipe.model_validate(RECIPES[name].model_dump()) == RECIPES[name]


def test_the_recipe_for_small_data_is_the_defaults() -> None:
    assert RECIPES["small"] == Recipe()


def test_the_recipe_for_pretraining_is_the_papers() -> None:
    paper = RECIPES["pretrain"]
    assert (paper.epochs, paper.batch_size, paper.learning_rate, paper.weight_decay) == (300, 4096, 1e-3, 0.1)
    assert (paper.optimizer, paper.decay, paper.clip_norm) == ("adamw", "linear", 1.0)
    assert (paper.stochastic_depth, paper.mixup, paper.cutmix) == (0.1, 0.5, 0.0)
    assert (paper.randaugment_layers, paper.randaugment_magnitude, paper.flip) == (2, 15, 0.5)
    assert (paper.crop_scale, paper.pad_crop) == (0.05, 0.0)
    assert (paper.label_smoothing, paper.sam_rho, paper.ema_decay) == (0.0, 0.0, 0.0)
    steps = -(-1_281_167 // paper.batch_size)  # of an epoch of ImageNet-1k
    rates = [learning_rate(step, steps, paper) for step in (4999, 9999, 10020, 150 * steps)]
    assert rates == pytest.approx([0.5e-3, 1e-3, 1e-3, 1e-3 * 150 / 268], rel=0.01)


def test_the_recipe_for_a_checkpoint_is_the_papers_with_smaller_batches() -> None:
    tuned = RECIPES["finetune"]
    assert (tuned.optimizer, tuned.momentum, tuned.decay, tuned.clip_norm) == ("sgd", 0.9, "cosine", 1.0)
    assert (tuned.weight_decay, tuned.label_smoothing, tuned.mixup, tuned.ema_decay) == (0.0, 0.0, 0.0, 0.0)


# --- fitted to the pictures ---

SMALL = RECIPES["small"]


@pytest.mark.parametrize(
    ("num_pictures", "batch_size", "epochs"),
    [(2, 8, 200), (16, 8, 200), (120, 8, 60), (255, 8, 60), (256, 16, 60), (1000, 32, 60), (2048, 128, 60)],
)
def test_few_pictures_get_smaller_batches_and_very_few_more_epochs(
    num_pictures: int, batch_size: int, epochs: int
) -> None:
    recipe = fitted(SMALL, (), num_pictures)
    assert (recipe.batch_size, recipe.epochs) == (batch_size, epochs)


@pytest.mark.parametrize("num_pictures", [2048, 54_000, 1_281_167])
def test_many_pictures_leave_a_recipe_as_it_is(num_pictures: int) -> None:
    assert fitted(SMALL, (), num_pictures) == SMALL.model_copy(update={"patience": 15})
    assert described(SMALL, SMALL, num_pictures) == []


@pytest.mark.parametrize(("num_pictures", "patience"), [(20, 50), (120, 15)])
def test_epochs_that_are_chosen_end_after_a_quarter_of_them_without_gain(num_pictures: int, patience: int) -> None:
    assert fitted(SMALL, (), num_pictures).patience == patience
    assert fitted(SMALL, ("epochs",), num_pictures).patience == 0
    assert fitted(SMALL, ("patience",), num_pictures).patience == 0


@pytest.mark.parametrize(
    ("counts", "balance"), [([10, 20, 15], 0.0), ([10, 21, 15], 0.5), ([0, 1], 0.0), ([0, 3], 0.5)]
)
def test_rare_classes_count_for_more_where_the_largest_has_more_than_twice_as_many(
    counts: list[int], balance: float
) -> None:
    assert balanced(SMALL, (), counts).balance == balance
    assert balanced(SMALL, ("balance",), counts).balance == 0.0


def test_settings_that_were_given_stay() -> None:
    given = SMALL.model_copy(update={"batch_size": 256, "epochs": 1})
    assert fitted(given, {"batch_size", "epochs"}, 20) == given


def test_the_batch_does_not_depend_on_the_epochs_so_that_a_run_can_be_extended() -> None:
    sizes = {fitted(SMALL.model_copy(update={"epochs": n}), {"epochs"}, 120).batch_size for n in (1, 60, 1000)}
    assert sizes == {8}


def test_a_recipe_of_smaller_batches_keeps_them() -> None:
    assert fitted(SMALL.model_copy(update={"batch_size": 4}), (), 120).batch_size == 4


def test_what_was_changed_is_told() -> None:
    assert described(fitted(SMALL, (), 20), SMALL, 20) == [
        "20 training pictures: batches of 8 in place of 128, 200 epochs in place of 60, 600 steps in all; "
        "--batch-size and --epochs set others"
    ]
