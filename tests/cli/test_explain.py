"""What in a picture carries its label, without a server."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cli.explain import in_words
from tests.app.api.test_explain import half_red

Mixer = Callable[..., int]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "half.png"
    path.write_bytes(half_red())
    return path


def test_the_grid_is_shown_in_marks(
    mixer: Mixer, bundle: Path, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mixer("explain", picture, "--bundle", bundle) == 0
    words, *lines = capsys.readouterr().out.splitlines()
    assert words.startswith("red ")
    assert words.endswith("%, occlusion with mean, 5 runs")
    assert lines == ["@@  ", "@@  "]


def test_numbers_are_those_of_the_service(
    mixer: Mixer, bundle: Path, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--target", "blue", "--method", "rise", "--baseline", "blur", "--json")
    assert mixer("explain", picture, "--bundle", bundle, *options) == 0
    body = json.loads(capsys.readouterr().out)
    told = (body["target"]["label"], body["method"], body["baseline"], body["runs"])
    assert told == ("blue", "rise", "blur", 129)
    assert np.array(body["grid"]["values"]).shape == (2, 2)


def test_the_picture_with_the_values_over_it_is_written(
    mixer: Mixer, bundle: Path, picture: Path, tmp_path: Path
) -> None:
    out = tmp_path / "why.png"
    assert mixer("explain", picture, "--bundle", bundle, "--out", out) == 0
    with Image.open(out) as shown:
        assert (shown.format, shown.size) == ("PNG", (768, 384))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--target", "gren"), "target is 'gren'; expected a label of the model, such as 'green'"),
        (("--method", "lime"), "method is 'lime'; expected occlusion or rise."),
    ],
)
def test_what_there_is_not_is_refused(
    mixer: Mixer, bundle: Path, picture: Path, options: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mixer("explain", picture, "--bundle", bundle, *options) == 2
    assert told in capsys.readouterr().err


def test_a_picture_that_cannot_be_read_is_named(
    mixer: Mixer, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mixer("explain", tmp_path / "none.png", "--bundle", bundle) == 2
    assert "none.png cannot be read: No such file or directory." in capsys.readouterr().err
    (tmp_path / "text.png").write_text("hello")
    assert mixer("explain", tmp_path / "text.png", "--bundle", bundle) == 2
    assert "text.png: The file starts with 68 65 6c 6c 6f and is no picture" in capsys.readouterr().err
    assert mixer("explain", tmp_path / "text.png", "--bundle", bundle, "--out", tmp_path / "no" / "x.png") == 2


def test_a_grid_on_which_nothing_rests_is_blank() -> None:
    grid = {"rows": 1, "columns": 2, "values": [[0.0, -1.0]]}
    body = {
        "target": {"label": "red", "probability": 0.5},
        "method": "rise",
        "baseline": "mean",
        "runs": 3,
        "region": {"turned": 0.0},
        "grid": grid,
    }
    assert in_words(body) == "red 50.0%, rise with mean, 3 runs\n    "  # type: ignore[arg-type]
