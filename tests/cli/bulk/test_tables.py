"""Parquet files that are broken in the middle, or cannot be opened: every row keeps its place."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cli.bulk.entries import Ready
from cli.bulk.outcomes import Failure
from tests.app.color_bundle import image
from tests.cli.bulk.conftest import contents, names_of


def test_a_row_group_that_is_broken_fails_by_itself(tmp_path: Path) -> None:
    pictures = [image((at, 0, 0)) for at in range(9)]
    path, after = tmp_path / "x.parquet", tmp_path / "after.png"
    after.write_bytes(pictures[0])
    pq.write_table(pa.table({"picture": pictures}), path, row_group_size=3, use_dictionary=False)
    column = pq.ParquetFile(path).metadata.row_group(1).column(0)
    whole = bytearray(path.read_bytes())
    start = column.data_page_offset
    whole[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(whole)
    found = contents(path, after)
    assert [entry.name for entry in found] == [*(f"{path}::{row}" for row in range(9)), str(after)]
    assert [row for row in range(9) if isinstance(found[row].content, Failure)] == [3, 4, 5]
    assert found[8] == Ready(f"{path}::8", pictures[8])


def test_a_table_that_cannot_be_opened_is_one_failure(tmp_path: Path) -> None:
    folder = tmp_path / "loop.parquet"
    (tmp_path / "x.parquet").symlink_to(folder)
    folder.symlink_to(tmp_path / "x.parquet")
    assert names_of(tmp_path / "*.parquet") == [str(folder), str(tmp_path / "x.parquet")]
