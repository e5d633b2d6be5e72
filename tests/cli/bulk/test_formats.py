"""Rows in files: what each format has, and that it has it exactly."""

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from cli.bulk.formats import CSV, FORMATS, JSON_LINES, PARQUET, as_json
from cli.bulk.outcomes import Embedded, Failure, Labelled, SetOfLabels

PREDICTIONS = [{"label": "red", "index": 0, "probability": 0.75}, {"label": "=blue", "index": 2, "probability": 0.25}]
LABELLED = Labelled(PREDICTIONS, uncertain=False, energy=3.5, label_set=SetOfLabels(0.9, ("red",)))  # type: ignore[arg-type]
FAILED = Failure("bad_picture", 'It is "none".')
ROWS = [("a,b.png", LABELLED), ("=1+1.png", Labelled(PREDICTIONS)), ("c.png", FAILED)]  # type: ignore[arg-type]


def test_parquet_has_a_column_for_each_part_and_lists_for_the_labels(tmp_path: Path) -> None:
    PARQUET.write(ROWS, tmp_path / "x.parquet", False)
    first, second, third = pq.read_table(tmp_path / "x.parquet").to_pylist()
    assert first == {
        "path": "a,b.png", "label": "red", "probability": 0.75, "labels": ["red", "=blue"],
        "probabilities": [0.75, 0.25], "uncertain": False, "energy": 3.5, "label_set": ["red"],
        "error_code": None, "error_detail": None,
    }  # fmt: skip
    assert (second["path"], second["uncertain"], second["label_set"]) == ("=1+1.png", None, None)
    assert {name for name, value in third.items() if value is not None} == {"path", "error_code", "error_detail"}


def test_csv_has_the_same_with_lists_as_json_and_changes_no_cell(tmp_path: Path) -> None:
    CSV.write(ROWS, tmp_path / "x.csv", False)
    assert CSV.head is not None
    text = CSV.head(False) + (tmp_path / "x.csv").read_text()
    first, second, third = csv.DictReader(text.splitlines())
    assert (first["path"], first["label"], float(first["probability"])) == ("a,b.png", "red", 0.75)
    assert json.loads(first["labels"]) == ["red", "=blue"]
    assert (first["uncertain"], first["energy"], first["label_set"]) == ("false", "3.5", '["red"]')
    assert second["path"] == "=1+1.png"
    assert (third["label"], third["error_code"], third["error_detail"]) == ("", "bad_picture", 'It is "none".')


def test_json_lines_have_what_the_service_answers(tmp_path: Path) -> None:
    JSON_LINES.write(ROWS, tmp_path / "x.jsonl", False)
    first, second, third = map(json.loads, (tmp_path / "x.jsonl").read_text().splitlines())
    assert first == {
        "path": "a,b.png", "predictions": PREDICTIONS, "uncertain": False, "energy": 3.5,
        "set": {"coverage": 0.9, "labels": ["red"]},
    }  # fmt: skip
    assert list(second) == ["path", "predictions"]
    assert third == {"path": "c.png", "error": {"code": "bad_picture", "detail": 'It is "none".'}}


def test_an_embedding_is_float32_in_every_format(tmp_path: Path) -> None:
    vector = np.array([0.1, -1e-7, 3e8], dtype=np.float32)
    rows = [("a.png", Embedded(vector)), ("b.png", FAILED)]
    for one in FORMATS.values():
        one.write(rows, tmp_path / f"x{one.suffix}", True)
    read = pq.read_table(tmp_path / "x.parquet")
    assert str(read.schema.field("embedding").type) == "list<element: float>"
    assert np.array_equal(np.float32(read["embedding"][0].as_py()), vector)
    assert read["embedding"][1].as_py() is None
    from_json = json.loads((tmp_path / "x.jsonl").read_text().splitlines()[0])["embedding"]
    assert np.array_equal(np.float32(from_json), vector)
    _, text, *_ = next(csv.reader((tmp_path / "x.csv").read_text().splitlines()))
    assert np.array_equal(np.float32(json.loads(text)), vector)


def test_the_model_stands_in_a_line_for_the_terminal() -> None:
    assert json.loads(as_json(ROWS[0], {"name": "m"}))["model"] == {"name": "m"}
