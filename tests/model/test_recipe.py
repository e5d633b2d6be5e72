import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from model.recipe import Augmentation, Recipe


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": 0},
        {"batch_size": -1},
        {"learning_rate": 0.0},
        {"optimiser": "lion"},
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


def test_a_recipe_can_be_read_without_torch() -> None:
    code = "import sys, model.recipe; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
