"""`mixer pull MODEL`: the folder it prints, and mistakes in one line."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cli.pulling.asked import Asked
from cli.pulling.store import Made, Store
from tests.app.color_bundle import color_spec, write_bundle

NAME = "google:gsam/Mixer-S_8"
Mixer = Callable[..., int]


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What NAME stands for in the cache."""
    monkeypatch.setenv("MIXER_CACHE", str(tmp_path / "cache"))
    store = Store(tmp_path / "cache")
    with store.making(Asked(NAME), lambda: None) as folder:
        made = Made(write_bundle(folder / "key" / "colours", color_spec()), True, "self-check passed.")
        return store.put(Asked(NAME), "key", made).bundle


def test_the_bundles_folder_is_all_that_stdout_has(
    mixer: Mixer, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mixer("pull", NAME) == 0
    told = capsys.readouterr()
    assert told.out == f"{bundle}\n"
    assert told.err == f"{NAME}: self-check passed.\n"


def test_a_copy_goes_to_a_folder_of_ones_own(
    mixer: Mixer, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "bundles" / "mixer"
    assert mixer("pull", NAME, "--out", out) == 0
    assert capsys.readouterr().out == f"{out}\n"
    assert (out / "fp32.onnx").read_bytes() == (bundle / "fp32.onnx").read_bytes()


def test_a_copy_takes_the_place_of_all_graphs_of_an_earlier_one(mixer: Mixer, bundle: Path, tmp_path: Path) -> None:
    out = write_bundle(tmp_path / "served", color_spec(name="earlier"), ("fp32", "int8"))
    assert mixer("pull", NAME, "--out", out) == 0
    assert (out / "fp32.onnx").read_bytes() == (bundle / "fp32.onnx").read_bytes()
    assert [path.name for path in out.iterdir()] == ["fp32.onnx"], "an int8 graph of another model would be served"


def test_a_copy_to_where_nothing_can_be_written_is_one_line(
    mixer: Mixer, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert mixer("pull", NAME, "--out", tmp_path / "file" / "out") == 2
    assert f"mixer: {tmp_path}/file/out cannot be written: " in capsys.readouterr().err


def expect_refusal(capsys: pytest.CaptureFixture[str], start: str) -> None:
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith(f"mixer: {start}"), told.err
    assert told.err.count("\n") == 1


def test_a_folder_with_other_things_is_not_written_to(
    mixer: Mixer, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "photographs"
    out.mkdir()
    (out / "cat.jpg").touch()
    assert mixer("pull", NAME, "--out", out) == 2
    expect_refusal(capsys, f"{out} is no bundle and holds cat.jpg; expected a new folder, an empty one or a bundle")


@pytest.mark.parametrize(
    ("model", "start"),
    [
        ("mixer_b16_224", "mixer_b16_224 is not a checkpoint that is known here; expected one of timm:mixer_b16_224."),
        (
            "nothing.npz",
            "nothing.npz is no name, and does not exist; expected a name, weights or a checkpoint (mixer pull --help).",
        ),
        ("/", "/ is no name, weights or checkpoint; expected a name, weights or a checkpoint (mixer pull --help)."),
        (
            "https://models.test/a.npz",
            "https://models.test/a.npz is an address; expected google:FOLDER/NAME, timm:NAME,",
        ),
        ("hf-hub:mixer", "hf-hub:mixer names no repository; expected hf-hub:ORG/REPO, or hf-hub:ORG/REPO@REVISION."),
    ],
)
def test_what_is_no_model_is_one_line(mixer: Mixer, capsys: pytest.CaptureFixture[str], model: str, start: str) -> None:
    assert mixer("pull", model) == 2
    expect_refusal(capsys, start)


def test_a_file_of_weights_that_is_none_is_one_line(
    mixer: Mixer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MIXER_CACHE", str(tmp_path / "cache"))
    (tmp_path / "page.npz").write_text("<html>")
    assert mixer("pull", tmp_path / "page.npz") == 2
    told = capsys.readouterr().err
    assert told.splitlines()[-1].startswith(f"mixer: {tmp_path}/page.npz cannot be read as .npz: It is a web page")
    assert not list((tmp_path / "cache").rglob("*.onnx"))
