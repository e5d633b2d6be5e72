"""The teacher that the options of a run name, and where its logits are kept. Knows nothing of the loop.

A teacher all of whose logits are kept is not loaded; its file says only which one it is.
"""

import torch
from torch import Tensor

from model.data.dataset import Dataset
from model.recipe import Recipe
from model.training.options import TrainOptions
from model.training.stored_logits import StoredLogits, key_of
from model.training.teacher import Teacher, read_teacher, teacher_name


def teaching(
    options: TrainOptions, recipe: Recipe, dataset: Dataset, channels: int, device: torch.device
) -> tuple[Teacher | None, StoredLogits | None]:
    """None for each where there is none. recipe: as it is fitted to the pictures.

    Raises: TrainingError, where the teacher cannot be used or --lessons holds other logits; CheckpointError.
    """
    if options.teacher is None:
        return None, None
    lessons = None
    if recipe.views:
        name = teacher_name(options.teacher)
        key = key_of(recipe, name, dataset.fingerprint)
        lessons = StoredLogits(options.lessons or options.out, key, len(dataset.train), len(dataset.labels))
        if options.lessons is not None:  # else the run in --out tells by itself how it differs
            lessons.expect_same()
        if lessons.is_complete:
            return Teacher(_not_loaded, name), lessons
    return read_teacher(options.teacher, dataset.labels, channels, device), lessons


def _not_loaded(_: Tensor) -> Tensor:
    raise AssertionError("This is a bug: all of the teacher's logits were there.")
