"""Whoever has written down a name of version 0.2 goes on with it: variables, flags, keys of files."""

import logging
from pathlib import Path
from typing import Any

import pytest

from app import settings
from app.system import environment
from model.flags import parse
from model.old_names import OLD_NAMES, renamed
from model.recipe import Recipe
from model.spec import Source
from model.training.options import TrainOptions

SETTINGS = {old: today for old, today in OLD_NAMES.items() if today in settings.Settings.model_fields}
TRAINING = {"licence": "CC0-1.0", "optimiser": "sgd"}


def test_every_old_name_stands_for_something() -> None:
    assert {*SETTINGS, *TRAINING, "optimisers"} == set(OLD_NAMES)


@pytest.mark.parametrize(("old", "today"), SETTINGS.items())
def test_a_setting_has_both_names(old: str, today: str, monkeypatch: pytest.MonkeyPatch) -> None:
    flag = f"--{old.replace('_', '-')}"
    assert getattr(settings.load([flag, "7"]), today) == 7
    assert getattr(settings.load([f"{flag}=8"]), today) == 8
    monkeypatch.setenv(f"MIXER_{old}".upper(), " 9 ")
    assert getattr(settings.load(), today) == 9
    monkeypatch.setenv(f"MIXER_{today}".upper(), "10")
    assert getattr(settings.load(), today) == 10


def test_an_old_variable_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    environment.log_oddities(settings.Settings.model_fields, "MIXER_", {"MIXER_LANES": "3", "MIXER_OPTIMISER": "sgd"})
    assert caplog.messages == [
        "MIXER_LANES is read, and called MIXER_INSTANCES today",
        "MIXER_OPTIMISER is no option of the service, and not read; expected one that mixer serve --help lists",
    ]


@pytest.mark.parametrize(("old", "value"), TRAINING.items())
def test_a_flag_of_training_has_both_names(old: str, value: str) -> None:
    options = parse(TrainOptions, ["data", "--out", "out", f"--{old}", value], "mixer train")
    assert getattr(options, OLD_NAMES[old]) == value


def test_files_with_old_keys_are_read() -> None:
    recipe: dict[str, Any] = {"optimiser": "muon", "epochs": 3}
    assert Recipe.model_validate(recipe) == Recipe(optimizer="muon", epochs=3)
    assert Source.model_validate({"origin": "here", "licence": "MIT"}) == Source(origin="here", license="MIT")
    assert renamed({"optimisers": [1], "step": 2}) == {"optimizers": [1], "step": 2}
    assert renamed({"optimizer": "sgd", "optimiser": "adam"}) == {"optimizer": "sgd"}


def test_a_value_that_looks_like_an_old_name_stays_one(tmp_path: Path) -> None:
    assert settings.load(["--bundle", str(tmp_path / "lanes"), "--default-model", "licence"]).default_model == "licence"
