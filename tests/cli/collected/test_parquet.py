"""A row for each picture; a line where pyarrow is missing."""

import sys
from pathlib import Path

import pytest

from app.collection.folder import Folder
from cli.collected.parquet import row_of, write
from model.errors import MixerError
from tests.app.color_bundle import BLUE, image
from tests.cli.collected.conftest import LIMITS


def test_a_row_has_the_picture_the_answer_and_the_label(kept: Path) -> None:
    row = row_of(list(Folder(kept, LIMITS).pictures())[1])
    assert row == {
        "image": {"bytes": image(BLUE), "path": "a-0.png"},
        "label": "blue",
        "predicted": "red",
        "probability": 0.9,
        "energy": 10.0,
        "uncertain": None,
        "model": "colours",
        "version": "7",
        "precision": "fp32",
        "request_id": "a",
        "index": 0,
        "time": "2025-11-29T12:00:00.000Z",
        "chosen_by": ["share"],
    }


def test_the_file_has_these_rows(kept: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    pictures = list(Folder(kept, LIMITS).pictures())
    assert write(pictures, tmp_path / "out.parquet") == 3
    assert parquet.read_table(tmp_path / "out.parquet").to_pylist() == [row_of(one) for one in pictures]


def test_without_pyarrow_there_is_a_line(kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MixerError, match="needs pyarrow"):
        write(list(Folder(kept, LIMITS).pictures()), tmp_path / "out.parquet")
