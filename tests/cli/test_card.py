"""`mixer export`, `mixer card` and `mixer evaluate --robustness` from end to end, on a toy."""

import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from model.network import checkpoint
from tests.export.toy_checkpoints import noise, toy_checkpoint


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    checkpoint.save(toy_checkpoint(images=noise(8)), folder)
    (folder / "card.toml").write_text('overview = "Tells noise apart."')
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three pictures of each of two of the labels."""
    for index, pixels in enumerate(noise(6)):
        path = tmp_path / "data" / "test" / ("north", "south")[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return tmp_path / "data"


@pytest.fixture
def others(tmp_path: Path) -> Path:
    (tmp_path / "others" / "deep").mkdir(parents=True)
    Image.fromarray(np.full((40, 30, 3), 200, dtype=np.uint8)).save(tmp_path / "others" / "deep" / "grey.jpg")
    (tmp_path / "others" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return tmp_path / "others"


def test_an_export_leaves_a_short_card_and_the_command_a_full_one(
    mixer: Callable[..., int],
    source: Path,
    data: Path,
    others: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bundle = tmp_path / "bundle"
    assert mixer("export", source, bundle, "--precisions", "fp32", "--data", data) == 0
    short = (bundle / "README.md").read_text(encoding="utf-8")
    assert "Tells noise apart." in short
    assert "charts/reliability.svg" in short
    assert "Robustness" not in short
    assert mixer("card", bundle, data, "--pictures", "4", "--out-of-distribution", others, "--measure") == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines()[-1] == str(bundle / "README.md")
    assert "passed over" in captured.err
    full = (bundle / "README.md").read_text(encoding="utf-8")
    assert "4 of the pictures, seed 0: top-1" in full
    assert "| others/ | 1 | " in full
    assert "images a second through `fp32.onnx` alone" in full
    assert full.count("(charts/") == 5
    assert json.loads((bundle / "card.json").read_text(encoding="utf-8"))["schema_version"] == "0.0.2"
    assert mixer("card", bundle, data, "--precision", "auto") == 2
    assert "--precision is 'auto'; expected that of a graph in" in capsys.readouterr().err
    assert mixer("export", source, bundle, "--precisions", "fp32") == 0
    assert (bundle / "README.md").read_text(encoding="utf-8").count("(charts/") == 0, "the graphs are others now"


def test_a_card_shows_how_far_each_of_its_parts_is(
    mixer: Callable[..., int], source: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert mixer("export", source, tmp_path / "bundle", "--precisions", "fp32") == 0
    screen = Console(file=io.StringIO(), force_terminal=True, width=120)
    monkeypatch.setattr("cli.terminal.console", screen)
    assert mixer("card", tmp_path / "bundle", data, "--pictures", "4") == 0
    shown = screen.file.getvalue()  # type: ignore[attr-defined]
    for part, count in (("judging pictures", "6/6"), ("changing pictures", "91/91"), ("pictures of no class", "4/4")):
        assert re.search(rf"{part}[^\n]* ?{count}", shown), shown


def test_an_evaluation_tells_and_writes_all_of_it(
    mixer: Callable[..., int],
    source: Path,
    data: Path,
    others: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found, report = tmp_path / "found.json", tmp_path / "report"
    arguments = ("--robustness", "--pictures", "4", "--out-of-distribution", others, "--json", found)
    assert mixer("evaluate", source, data, *arguments, "--report", report) == 0
    told = capsys.readouterr().out
    assert "Top-1 in % on 4 pictures, by strength" in told
    assert "rotated by 45°" in told
    assert re.search(r"calibration error \S+ \(\S+ on average, at most \S+ in 95 % of\s+draws, were it", told)
    written = json.loads(found.read_text(encoding="utf-8"))
    assert written["num_pictures"] == 6
    assert len(written["robustness"]["corruptions"]["snow"]) == 5
    assert set(written["unfamiliar"]) == {"noise", "gradients", "stripes", "text", "others/"}
    page = (report / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 4
    chance = written["calibration_error_by_chance"]
    assert 0 < chance["mean"] < chance["percentile_95"]
    assert f"({chance['mean']:.4f} on average, at most {chance['percentile_95']:.4f} in 95 % of draws" in page


def test_a_folder_without_pictures_is_refused(
    mixer: Callable[..., int], source: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert mixer("evaluate", source, data, "--out-of-distribution", tmp_path / "empty") == 2
    assert "has no readable picture; expected some of none of the classes." in capsys.readouterr().err


def test_logits_that_are_not_finite_are_told(
    mixer: Callable[..., int], source: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = checkpoint.load(source)
    next(loaded.model.parameters()).data.fill_(float("nan"))
    checkpoint.save(loaded, source)
    assert mixer("evaluate", source, data) == 2
    assert "cannot be judged: The logits are not all finite numbers." in capsys.readouterr().err


def test_a_folder_may_be_named_like_a_kind_that_is_made(
    mixer: Callable[..., int], source: Path, data: Path, others: Path, tmp_path: Path
) -> None:
    found, noise_folder = tmp_path / "found.json", others.rename(tmp_path / "noise")
    assert (
        mixer("evaluate", source, data, "--out-of-distribution", noise_folder, "--pictures", "4", "--json", found) == 0
    )
    unfamiliar = json.loads(found.read_text(encoding="utf-8"))["unfamiliar"]
    assert (unfamiliar["noise"]["num_pictures"], unfamiliar["noise/"]["num_pictures"]) == (4, 1)


@pytest.mark.parametrize("wrong", [("--val-fraction", "1"), ("--val-fraction", "nan"), ("--seed", "-1")])
@pytest.mark.parametrize("command", ["evaluate", "card"])
def test_a_wrong_split_is_refused(
    command: str, wrong: tuple[str, str], mixer: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mixer(command, tmp_path, tmp_path, *wrong) == 2
    assert f"Invalid value for '{wrong[0]}'" in capsys.readouterr().err
