"""The pictures in a column of a Parquet file, row by row. Knows nothing of where the file lies.

A column holds pictures' bytes, or the structs of bytes and path that Hugging Face's data sets have.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any, BinaryIO

from app.errors import BadRequest
from cli.bulk.entries import Entry, broken, too_many_bytes
from cli.bulk.stores import SourceError, require

TABLE_SUFFIXES = (".parquet",)
_ROWS = 64  # read at a time
_BUFFER_BYTES = 1 << 20  # of a column that is held; without it a whole row group's, however large
_BYTES = "bytes"


def table_entries(name: str, opened: Callable[[], BinaryIO], most: int, column: str | None) -> Iterator[Entry]:
    """The pictures of a column, as NAME::ROW counted from 0. `column`: None where it is the only one with bytes.

    Raises: SourceError where there is no such column; MixerError where pyarrow is missing.
    """
    require("pyarrow", f"Reading {name}")
    import pyarrow  # noqa: PLC0415
    import pyarrow.parquet  # noqa: PLC0415

    with ExitStack() as stack:
        try:
            file = stack.enter_context(opened())
            table = pyarrow.parquet.ParquetFile(file, pre_buffer=False, buffer_size=_BUFFER_BYTES)
        except (pyarrow.ArrowException, OSError) as error:
            yield Entry(name, broken(error))
            return
        path = _path_of(name, table.schema_arrow, column)
        row = 0
        for group in range(table.metadata.num_row_groups):
            cells = _Cells(table, group, path, most)
            for at in range(table.metadata.row_group(group).num_rows):
                yield Entry(f"{name}::{row}", partial(cells.payload, at))
                row += 1


class _Cells:
    """The cells of one row group. Nothing is read before the first that is wanted; they are wanted in order."""

    def __init__(self, table: Any, group: int, path: str, most: int) -> None:
        self._batches = table.iter_batches(_ROWS, row_groups=[group], columns=[path])
        self._path, self._most = path, most
        self._column: Any = None
        self._start = self._end = 0

    def payload(self, row: int) -> bytes:
        """The bytes in a row of the group. Raises BadRequest where it has none, TooManyBytes, EOFError, OSError."""
        while row >= self._end:
            batch = self._next()
            self._start, self._end = self._end, self._end + batch.num_rows
            self._column = _bytes_in(batch, self._path)
        payload = self._column[row - self._start].as_py()
        if payload is None:
            raise BadRequest("The row has no bytes; expected a picture in it.")
        if len(payload) > self._most:
            raise too_many_bytes(len(payload), self._most)
        return bytes(payload)

    def _next(self) -> Any:
        """The next rows. After an error there are none: each later row of the group fails, too."""
        from pyarrow import ArrowException  # noqa: PLC0415

        try:
            batch = next(self._batches, None)
        except ArrowException as error:
            raise EOFError(str(error)) from error
        if batch is None:
            raise EOFError("its row group breaks off before this row")
        return batch


def _bytes_in(batch: Any, path: str) -> Any:
    column = batch.column(0)
    return column.field(_BYTES) if path.endswith(f".{_BYTES}") and column.type.num_fields else column


def _path_of(name: str, schema: Any, column: str | None) -> str:
    """The name of a column with bytes, or of the bytes in a column of structs. Raises SourceError."""
    found = {field.name: path for field in schema if (path := _path_in(field)) is not None}
    if column is not None:
        if column not in found:
            known = ", ".join(found) or "none"
            raise SourceError(f"{name} has no column {column!r} with bytes; expected one of these: {known}.")
        return found[column]
    if len(found) != 1:
        known = ", ".join(found) or "none"
        raise SourceError(f"{name} has {len(found)} columns with bytes ({known}); expected {name}::COLUMN.")
    return next(iter(found.values()))


def _path_in(field: Any) -> str | None:
    from pyarrow import types  # noqa: PLC0415

    if types.is_binary(field.type) or types.is_large_binary(field.type):
        return str(field.name)
    if types.is_struct(field.type):
        inner = field.type.get_field_index(_BYTES)
        if inner >= 0 and (types.is_binary(field.type[inner].type) or types.is_large_binary(field.type[inner].type)):
            return f"{field.name}.{_BYTES}"
    return None
