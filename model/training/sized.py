"""A recipe's batch size and epochs, fitted to how many training pictures there are. Knows nothing of the pictures.

128 of 120 pictures would be one step an epoch: too few to learn in, however many epochs there are.
"""

from collections.abc import Collection

from model.recipe import Recipe

_STEPS_PER_EPOCH = 16
_SMALLEST_BATCH = 8
_STEPS = 600
_MOST_EPOCHS = 200


def fitted(recipe: Recipe, given: Collection[str], num_pictures: int) -> Recipe:
    """Smaller batches, so that an epoch has 16 steps, and more epochs, so that a run has 600; `given` settings stay.

    The batch does not depend on the epochs, so that a run can be extended.
    """
    changes: dict[str, int] = {}
    if "batch_size" not in given:
        changes["batch_size"] = min(recipe.batch_size, max(_SMALLEST_BATCH, _power_of_two(num_pictures)))
    steps = -(-num_pictures // changes.get("batch_size", recipe.batch_size))
    if "epochs" not in given:
        changes["epochs"] = max(recipe.epochs, min(_MOST_EPOCHS, -(-_STEPS // steps)))
    return recipe.model_copy(update=changes)


def described(recipe: Recipe, wanted: Recipe, num_pictures: int) -> list[str]:
    """A line on what `fitted` made of the recipe that was wanted, where it changed anything."""
    if recipe == wanted:
        return []
    steps = -(-num_pictures // recipe.batch_size)
    batches = f" in place of {wanted.batch_size}" if recipe.batch_size != wanted.batch_size else ""
    epochs = f" in place of {wanted.epochs}" if recipe.epochs != wanted.epochs else ""
    return [
        f"{num_pictures} training pictures: batches of {recipe.batch_size}{batches}, {recipe.epochs} epochs{epochs}, "
        f"{recipe.epochs * steps} steps in all; --batch-size and --epochs set others"
    ]


def _power_of_two(num_pictures: int) -> int:
    """The largest with which an epoch has so many steps; 0 where there is none."""
    most = num_pictures // _STEPS_PER_EPOCH
    return 1 << (most.bit_length() - 1) if most else 0
