"""What is missing is named in one line, with what brings it; and the extra brings what is asked for."""

import tomllib
from pathlib import Path

import pytest

from cli.pulling import packages
from model.errors import MixerError

ROOT = Path(__file__).parents[3]


def test_a_package_that_is_missing_is_named_with_what_brings_it() -> None:
    with pytest.raises(MixerError) as caught:
        packages.expect_installed(("json", "no_such_package"), "pull")
    assert str(caught.value) == (
        "Making a bundle of a model needs no_such_package, which is not installed; expected scripts/install cpu,pull, "
        "or pip install 'mixer-serve[cpu,pull]'."
    )


def test_the_extra_brings_what_is_asked_for() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    brought = {name.replace("-", "_") for name in (*extras["pull"], *extras["convert"])}
    assert "mixer-serve[convert]" in extras["pull"]
    assert brought >= set(packages.PULL)
    packages.expect_installed()
