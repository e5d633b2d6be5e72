import pytest

from model.recipe import RECIPES
from model.training.sized import described, fitted

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
    assert fitted(SMALL, (), num_pictures) == SMALL
    assert described(SMALL, SMALL, num_pictures) == []


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
