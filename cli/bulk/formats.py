"""Rows as Parquet, CSV or JSON lines. Knows nothing of shards or of which pictures they are.

Cells are data as they are: in CSV none is changed for spreadsheets, which take a text that begins with = for a formula.
"""

import csv
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np

from cli.bulk.outcomes import Embedded, Failure, Labelled, Outcome

Row = tuple[str, Outcome]
_ERROR = ("error_code", "error_detail")
LABEL_COLUMNS = ("path", "label", "probability", "labels", "probabilities", "uncertain", "energy", "label_set", *_ERROR)
EMBEDDING_COLUMNS = ("path", "embedding", *_ERROR)


class Format(NamedTuple):
    """How rows become a file. head: what a whole file begins with, where its parts are joined; None: they are not."""

    suffix: str
    write: Callable[[Sequence[Row], Path, bool], None]
    head: Callable[[bool], str] | None


def columns(*, embeds: bool) -> tuple[str, ...]:
    """The columns of labels or of embeddings."""
    return EMBEDDING_COLUMNS if embeds else LABEL_COLUMNS


def cells(row: Row, *, embeds: bool) -> tuple[Any, ...]:
    """The values of a row's columns; None where there is none."""
    name, outcome = row
    empty = (None,) * (len(columns(embeds=embeds)) - 3)
    match outcome:
        case Failure(code, detail):
            return (name, *empty, code, detail)
        case Embedded(embedding):
            return (name, embedding, None, None)
        case Labelled(predictions, uncertain, energy, label_set):
            labels = [one["label"] for one in predictions]
            probabilities = [one["probability"] for one in predictions]
            chosen = None if label_set is None else list(label_set.labels)
            best = (labels[0], probabilities[0])
            return (name, *best, labels, probabilities, uncertain, energy, chosen, None, None)


def as_json(row: Row, model: Mapping[str, str] | None = None) -> str:
    """A row as one line of JSON, in the shape that the service answers in."""
    name, outcome = row
    told: dict[str, Any] = {"path": name}
    match outcome:
        case Failure():
            told["error"] = outcome._asdict()
        case Embedded(embedding):
            told |= {"embedding": _numbers(embedding)}
        case Labelled(predictions, uncertain, energy, label_set):
            told |= {} if model is None else {"model": model}
            told["predictions"] = predictions
            told |= {} if uncertain is None else {"uncertain": uncertain}
            told |= {} if energy is None else {"energy": energy}
            told |= {} if label_set is None else {"set": label_set._asdict()}
    return json.dumps(told, ensure_ascii=False)


def _numbers(embedding: Any) -> list[float]:
    """float32 in as few digits as tell them from their neighbors."""
    return [float(str(number)) for number in embedding.astype(np.float32)]


def arrow_schema(*, embeds: bool) -> Any:
    """The columns as Arrow has them: a pyarrow.Schema."""
    import pyarrow as pa  # noqa: PLC0415

    text, number = pa.string(), pa.float64()
    types = {
        "labels": pa.list_(text), "probabilities": pa.list_(number), "label_set": pa.list_(text), "energy": number,
        "probability": number, "uncertain": pa.bool_(), "embedding": pa.list_(pa.float32()),
    }  # fmt: skip
    return pa.schema([(name, types.get(name, text)) for name in columns(embeds=embeds)])


def arrow_table(rows: Sequence[Row], *, embeds: bool) -> Any:
    """Rows as a pyarrow.Table."""
    import pyarrow as pa  # noqa: PLC0415

    schema = arrow_schema(embeds=embeds)
    if not rows:
        return schema.empty_table()
    values = zip(*(cells(row, embeds=embeds) for row in rows), strict=True)
    arrays = [pa.array(list(column), kind.type) for column, kind in zip(values, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def _write_parquet(rows: Sequence[Row], path: Path, embeds: bool) -> None:
    import pyarrow.parquet  # noqa: PLC0415

    pyarrow.parquet.write_table(arrow_table(rows, embeds=embeds), path)


def _write_csv(rows: Sequence[Row], path: Path, embeds: bool) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        _csv(file, (map(_cell, cells(row, embeds=embeds)) for row in rows))


def _csv(file: TextIO, rows: Iterable[Iterable[str]]) -> None:
    csv.writer(file, lineterminator="\n").writerows(rows)


def _cell(value: Any) -> str:
    """Lists as JSON; nothing as nothing."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, np.ndarray):
        value = _numbers(value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else str(value)


def _write_json(rows: Sequence[Row], path: Path, embeds: bool) -> None:
    del embeds  # each outcome tells
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"{as_json(row)}\n" for row in rows)


PARQUET = Format(".parquet", _write_parquet, None)
CSV = Format(".csv", _write_csv, lambda embeds: ",".join(columns(embeds=embeds)) + "\n")
JSON_LINES = Format(".jsonl", _write_json, lambda embeds: "")
FORMATS = {one.suffix: one for one in (PARQUET, CSV, JSON_LINES)}
