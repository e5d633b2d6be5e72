"""`mixer classify` and `mixer embed` from sources to files."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from model.spec import ModelSpec
from tests.app.color_bundle import GREEN, RED, color_spec, image, write_bundle
from tests.cli.bulk.conftest import color_at

Mixer = Callable[..., int]


def paths_and_labels(output: Path) -> list[tuple[str, str]]:
    rows = pq.read_table(output).to_pylist()
    return [(row["path"], row["label"]) for row in rows]


def test_a_folder_becomes_a_table_with_a_row_for_each_picture(
    mixer: Mixer, bundle: Path, many: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "o.parquet"
    assert mixer("classify", many, "--bundle", bundle, "--output", output, "--shard-size", 100) == 0
    assert paths_and_labels(output) == [(f"{many}/{at:03}.png", color_at(at)) for at in range(250)]
    assert len(list(output.glob("part-*.parquet"))) == 3
    assert capsys.readouterr().err == f"{output} has 250 pictures.\n"


def test_a_csv_and_json_lines_have_the_same_rows(mixer: Mixer, bundle: Path, images: Path, tmp_path: Path) -> None:
    for suffix in ("csv", "jsonl"):
        assert mixer("classify", images, "--bundle", bundle, "--output", tmp_path / f"o.{suffix}", "--top-k", 2) == 0
    from_csv = [(row["path"], row["label"]) for row in csv.DictReader((tmp_path / "o.csv").read_text().splitlines())]
    from_json = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert from_csv == [(one["path"], one["predictions"][0]["label"]) for one in from_json]
    assert [len(one["predictions"]) for one in from_json] == [2, 2, 2]


def test_a_failure_is_a_row_and_exit_code_1_unless_so_many_may_fail(
    mixer: Mixer, bundle: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (images / "broken.png").write_bytes(image(RED, size=(99, 99))[:60])
    at = {"bundle": bundle, "output": tmp_path / "o.parquet"}
    flags = [word for name, value in at.items() for word in (f"--{name}", value)]
    assert mixer("classify", images, *flags) == 1
    row = pq.read_table(at["output"]).to_pylist()[1]
    assert (row["path"], row["label"], row["error_code"]) == (f"{images}/broken.png", None, "bad_picture")
    assert capsys.readouterr().err == f"{at['output']} has 4 pictures, 1 of them with an error (their rows say why).\n"
    assert mixer("classify", images, *flags, "--resume", "--max-failure-rate", 0.25) == 0
    assert mixer("classify", images, *flags, "--resume", "--max-failure-rate", 0.2) == 1


def test_too_many_failures_stop_it_and_keep_what_is_done(
    mixer: Mixer, bundle: Path, many: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for at in range(50, 60):
        (many / f"{at:03}.png").write_bytes(b"no picture")
    flags = ["--bundle", bundle, "--output", tmp_path / "o.csv", "--resume", "--max-failure-rate"]
    assert mixer("classify", many, *flags, 0.05) == 1
    told = capsys.readouterr().err
    assert told.startswith("mixer: 10 of 100 pictures failed, more than --max-failure-rate 0.05; ")
    assert told.endswith("Go on with a higher rate and --resume.\n")
    assert not (tmp_path / "o.csv").exists()
    assert mixer("classify", many, *flags, 0.2) == 0
    rows = list(csv.DictReader((tmp_path / "o.csv").read_text().splitlines()))
    assert [row["path"] for row in rows] == [f"{many}/{at:03}.png" for at in range(250)]


def test_another_model_does_not_go_on_with_an_output(
    mixer: Mixer, bundle: Path, many: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "o.parquet"
    assert mixer("classify", many, "--bundle", bundle, "--output", output) == 0
    spec: ModelSpec = color_spec(version="8")
    other = write_bundle(tmp_path / "other", spec)
    capsys.readouterr()
    assert mixer("classify", many, "--bundle", other, "--output", output, "--resume") == 2
    assert "was begun with the model's version 7, and this command has 8" in capsys.readouterr().err


def test_sources_that_changed_do_not_go_on_with_an_output(
    mixer: Mixer, bundle: Path, many: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--bundle", bundle, "--output", tmp_path / "o.parquet", "--shard-size", 100, "--resume"]
    assert mixer("classify", many, *flags) == 0
    capsys.readouterr()
    assert mixer("classify", many, *flags) == 0
    assert "is complete, and nothing is left to do" in capsys.readouterr().err
    (many / "150.png").unlink()
    assert mixer("classify", many, *flags) == 2
    assert "The sources have changed: part-00001.parquet" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--resume"], "--resume has no --output; expected the output to go on with."),
        (["--output", "o.txt"], "--output is o.txt; expected a name that ends in .parquet, .csv, .jsonl."),
        (["--url", "service:8000"], "--url is 'service:8000'; expected http://HOST:PORT or https://HOST:PORT."),
        (["--top-k", "4", "--output", "o.csv"], "top_k is 4; expected 1 to 3, the number of classes."),
    ],
)
def test_options_that_do_not_go_together_are_one_line(
    flags: list[str], words: str, mixer: Mixer, bundle: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mixer("classify", images, "--bundle", bundle, *flags) == 2
    assert capsys.readouterr().err == f"mixer: {words}\n"


def test_without_an_output_other_sources_are_printed_as_folders_are(
    mixer: Mixer, bundle: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (images / "broken.png").write_bytes(image(GREEN)[:50])
    assert mixer("classify", f"{images}/*.*g*", "--bundle", bundle) == 1
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [f"{images}/green.png: green 100.0%", f"{images}/red.gif: red 100.0%"]
    assert captured.err.startswith(f"{images}/broken.png: The picture cannot be decoded")
    assert mixer("classify", f"{images}/*.gif", "--bundle", bundle, "--json") == 0
    line = json.loads(capsys.readouterr().out)
    assert line["model"] == {"name": "colours", "version": "7", "precision": "fp32"}
    assert line["predictions"][0]["label"] == "red"


def test_embed_prints_vectors_and_writes_them(
    mixer: Mixer, bundle: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mixer("embed", images / "green.png", "--bundle", bundle) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == {"path": f"{images}/green.png", "embedding": [0.0, 255.0, 0.0] * 16}
    assert mixer("embed", images, "--bundle", bundle, "--output", tmp_path / "o.parquet") == 0
    rows = pq.read_table(tmp_path / "o.parquet").to_pylist()
    assert [row["path"] for row in rows] == [f"{images}/{name}" for name in ("b/blue.jpg", "green.png", "red.gif")]
    assert np.array_equal(rows[2]["embedding"], [255.0, 0.0, 0.0] * 16)
