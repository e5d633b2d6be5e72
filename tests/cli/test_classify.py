"""Pictures without a server: a line for each, whatever the others are."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, ImageOps

from app.settings import Settings
from cli import classify
from model.spec import Conformal
from tests.app.color_bundle import BLUE, GREEN, RED, color_spec, image, write_bundle
from tests.app.servers import ROOT, clean_environment

Mixer = Callable[..., int]
Capture = pytest.CaptureFixture[str]


def test_classify_prints_the_best_label_of_each_picture_in_order(
    mixer: Mixer, bundle: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mixer("classify", images / "red.gif", images, "--bundle", bundle) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.splitlines() == [
        f"{images}/red.gif: red 100.0%",
        f"{images}/b/blue.jpg: blue 100.0%",
        f"{images}/green.png: green 100.0%",
        f"{images}/red.gif: red 100.0%",
    ]


def test_classify_prints_more_labels_when_asked(
    mixer: Mixer, bundle: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mixer("classify", "--top-k", 3, images / "green.png", "--bundle", bundle / "fp32.onnx") == 0
    line = capsys.readouterr().out.strip()
    assert line == f"{images}/green.png: green 100.0%, red 0.0%, blue 0.0%"


def test_classify_as_json_prints_one_object_a_line(
    mixer: Mixer, bundle: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mixer("classify", "--json", images, "--bundle", bundle) == 0
    first, *others = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(others) == 2
    assert list(first) == ["path", "model", "predictions"]
    assert first["path"] == f"{images}/b/blue.jpg"
    assert first["model"] == {"name": "colours", "version": "7", "precision": "fp32"}
    assert [(best["label"], best["index"]) for best in first["predictions"]] == [("blue", 2), ("red", 0), ("green", 1)]
    assert first["predictions"][0]["probability"] == pytest.approx(0.9999, abs=1e-3)


@pytest.mark.parametrize("command", [["classify"], ["classify", "--output", "rows.jsonl"], ["embed"], ["explain"]])
def test_what_pillow_warns_of_a_picture_is_not_told(
    command: list[str], tmp_path: Path, mixer: Mixer, bundle: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    cut_short = b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01\x03\0\x01"
    Image.new("RGB", (24, 24)).save("odd.jpg", exif=cut_short)
    with pytest.warns(UserWarning, match="Corrupt EXIF data"):
        ImageOps.exif_transpose(Image.open("odd.jpg"))
    assert mixer(*command, "odd.jpg", "--bundle", bundle) == 0
    assert "Corrupt EXIF" not in capfd.readouterr().err


@pytest.fixture
def unsure_bundle(tmp_path: Path) -> Path:
    """A bundle that is sure of pictures of one full color only."""
    conformal = Conformal(data_set="colours", num_pictures=4, scores=(0.1, 0.2, 0.6, 0.9))
    return write_bundle(tmp_path / "unsure", color_spec(energy_threshold=8.0, conformal=conformal))


def test_a_line_says_that_its_answer_is_uncertain_and_which_labels_are_in_its_set(
    mixer: Mixer, unsure_bundle: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (images / "grey.png").write_bytes(image((51, 51, 51)))
    pictures = (images / "green.png", images / "grey.png")
    assert mixer("classify", *pictures, "--bundle", unsure_bundle) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{images}/green.png: green 100.0%",
        f"{images}/grey.png: red 33.3% (uncertain)",
    ]
    assert mixer("classify", *pictures, "--bundle", unsure_bundle, "--set", "0.8", "--threshold", "3") == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{images}/green.png: green 100.0%; set: green",
        f"{images}/grey.png: red 33.3%; set: red, green, blue",
    ]


def test_json_has_what_the_service_answers_of_certainty(
    mixer: Mixer, unsure_bundle: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mixer("classify", "--json", images / "green.png", "--bundle", unsure_bundle, "--set", "0.5") == 0
    entry = json.loads(capsys.readouterr().out)
    assert list(entry) == ["path", "model", "predictions", "uncertain", "energy", "set"]
    assert entry["uncertain"] is False
    assert entry["energy"] == pytest.approx(10, abs=1e-3)
    assert entry["set"] == {"coverage": 0.5, "labels": ["green"]}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--set", "0.9"), "set is 0.9; this model has no scores to make sets of, expected none."),
        (("--set", "1"), "set is 1.0; expected a coverage above 0 and below 1."),
        (("--threshold", "nan"), "threshold is nan; expected a finite number."),
    ],
)
def test_a_certainty_that_cannot_be_told_is_one_line(
    flags: tuple[str, ...], words: str, mixer: Mixer, bundle: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mixer("classify", images, "--bundle", bundle, *flags) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", f"mixer: {words}\n")


@pytest.mark.parametrize("as_json", [False, True])
def test_a_picture_that_is_none_is_reported_in_its_place_and_the_others_go_on(
    as_json: bool, mixer: Mixer, bundle: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (images / "broken.png").write_bytes(image(RED, size=(99, 99))[:60])
    (images / "dangling").symlink_to(images / "nowhere")
    (images / "folder.png").mkdir()
    assert mixer("classify", images, "--bundle", bundle, *(["--json"] if as_json else [])) == 1
    captured = capsys.readouterr()
    if as_json:
        entries = [json.loads(line) for line in captured.out.splitlines()]
        names = ["blue.jpg", "broken.png", "dangling", "green.png", "red.gif"]
        assert [Path(entry["path"]).name for entry in entries] == names
        assert entries[1]["error"]["code"] == "bad_picture"
        assert entries[1]["error"]["detail"].startswith("The picture cannot be decoded: ")
        assert captured.err == ""
    else:
        assert [line.split(": ")[1][:3] for line in captured.out.splitlines()] == ["blu", "gre", "red"]
        broken, dangling = captured.err.splitlines()
        assert broken.startswith(f"{images}/broken.png: The picture cannot be decoded: ")
        assert dangling == f"{images}/dangling: It is a link that leads to no file."


def test_a_file_that_vanishes_before_it_is_read_is_reported_in_its_place(
    bundle: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = list(classify.entries_of([images / "green.png"]))
    entries[0].path.unlink()
    chosen = Settings(bundle=bundle)
    assert asyncio.run(classify.classify_all(chosen, entries, {}, as_json=True)) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert error == {"code": "unreadable_file", "detail": "It cannot be read: No such file or directory."}


@pytest.mark.parametrize("as_json", [False, True])
def test_what_cannot_be_classified_has_an_entry_and_does_not_stop_the_others(
    as_json: bool, mixer: Mixer, bundle: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    heic = images / "b" / "photo.heic"
    heic.write_bytes(b"\0\0\0\x18ftypheic" + bytes(20))
    paths = ["/nowhere/x.png", tmp_path / "empty", images / "b", images / "red.gif"]
    assert mixer("classify", *paths, "--bundle", bundle, *(["--json"] if as_json else [])) == 1
    captured = capsys.readouterr()
    failures = [
        ("/nowhere/x.png", "missing_file", "It does not exist; expected a picture, a folder or -."),
        (f"{tmp_path}/empty", "no_pictures", "It holds no pictures."),
        (str(heic), "unreadable_file", "It is a HEIC picture; expected JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF."),
    ]
    if not as_json:
        assert captured.err.splitlines() == [f"{path}: {detail}" for path, _, detail in failures]
        assert captured.out.splitlines() == [f"{images}/b/blue.jpg: blue 100.0%", f"{images}/red.gif: red 100.0%"]
        return
    missing, empty, blue, unread, red = [json.loads(line) for line in captured.out.splitlines()]
    for entry, (path, code, detail) in zip((missing, empty, unread), failures, strict=True):
        assert entry == {"path": path, "error": {"code": code, "detail": detail}}
    assert [entry["predictions"][0]["label"] for entry in (blue, red)] == ["blue", "red"]
    assert captured.err == ""


def test_a_path_that_is_not_utf_8_is_shown_escaped(
    mixer: Mixer, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png"))
    path.write_bytes(image(RED))
    assert mixer("classify", path, path.with_suffix(".gone"), "--bundle", bundle) == 1
    captured = capsys.readouterr()
    assert captured.out == f"{tmp_path}/\\xff.png: red 100.0%\n"
    assert captured.err.startswith(f"{tmp_path}/\\xff.gone: It does not exist")
    assert mixer("classify", path, "--bundle", bundle, "--json") == 0
    assert json.loads(capsys.readouterr().out)["path"] == f"{tmp_path}/\\xff.png"


@pytest.mark.process
@pytest.mark.parametrize(
    ("by", "sent", "outcome"),
    [
        ("standard_input", image(GREEN), "green"),
        ("standard_input", bytes(2001), "too_many_bytes"),
        ("pipe", image(GREEN), "green"),
        ("pipe", b"", "bad_picture"),
    ],
    ids=["standard_input", "more_than_the_limit", "pipe", "nothing"],
)
def test_a_picture_may_come_from_standard_input_or_a_pipe(
    by: str, sent: bytes, outcome: str, bundle: Path, images: Path, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    command = [sys.executable, "-m", "cli", "classify", "--bundle", str(bundle), "--json", str(images / "red.gif")]
    with subprocess.Popen(
        [*command, "-" if by == "standard_input" else str(pipe), str(images / "green.png")],
        cwd=ROOT,
        env=clean_environment(MIXER_MAX_IMAGE_BYTES="2000"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        with process.stdin if by == "standard_input" else pipe.open("wb") as file:
            file.write(sent)
        assert process.stdout is not None
        first, piped, last = [json.loads(line) for line in process.stdout]
    assert [entry["predictions"][0]["label"] for entry in (first, last)] == ["red", "green"]
    assert piped["path"] == ("-" if by == "standard_input" else str(pipe))
    found = piped["error"]["code"] if "error" in piped else piped["predictions"][0]["label"]
    assert found == outcome
    assert process.returncode == int("error" in piped)


def test_more_pictures_than_the_window_keep_their_order(
    mixer: Mixer, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MIXER_QUEUE_CAPACITY", "2")
    monkeypatch.setenv("MIXER_MAX_IMAGES_PER_REQUEST", "2")
    colors = {"red": RED, "green": GREEN, "blue": BLUE}
    for index in range(9):
        (tmp_path / f"{index}.png").write_bytes(image(list(colors.values())[index % 3]))
    assert mixer("classify", tmp_path, "--bundle", bundle) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[1].split()[0] for line in lines] == list(colors) * 3


def test_the_bundle_may_come_from_the_environment(
    mixer: Mixer, bundle: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIXER_BUNDLE", str(bundle))
    assert mixer("classify", images) == 0


@pytest.mark.parametrize("top_k", [0, -1, 4])
@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_an_impossible_top_k_is_one_line(
    top_k: int, flags: list[str], mixer: Mixer, bundle: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mixer("classify", "--top-k", top_k, images, "--bundle", bundle, *flags) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"mixer: top_k is {top_k}; expected 1 to 3, the number of classes.\n"


def test_a_file_that_is_larger_than_a_picture_is_not_read(
    mixer: Mixer, bundle: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (images / "large.png").open("wb") as file:
        file.truncate(1 << 40)  # a terabyte, none of it on the disk
    assert mixer("classify", images / "large.png", images / "green.png", "--bundle", bundle) == 1
    captured = capsys.readouterr()
    assert captured.out == f"{images}/green.png: green 100.0%\n"
    assert "has 1099511627776 bytes; expected at most" in captured.err


def test_a_path_that_is_too_long_does_not_exist(
    mixer: Mixer, bundle: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mixer("classify", "a" * 300, images / "green.png", "--bundle", bundle) == 1
    captured = capsys.readouterr()
    assert captured.out == f"{images}/green.png: green 100.0%\n"
    assert captured.err == f"{'a' * 300}: It does not exist; expected a picture, a folder or -.\n"
