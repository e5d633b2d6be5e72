"""Kept pictures as a Parquet file: a row each, the bytes in it. Loads pyarrow when it runs."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from app.collection.folder import Kept
from model.errors import MixerError


def write(kept: Sequence[Kept], output: Path) -> int:
    """Write a row for each picture; returns how many. Raises: OSError, MixerError where pyarrow is missing."""
    try:
        pyarrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError as error:
        raise MixerError(
            "A Parquet file needs pyarrow; expected scripts/install cpu,bulk, or the extra mixer-serve[bulk]."
        ) from error
    parquet.write_table(pyarrow.Table.from_pylist([row_of(one) for one in kept]), output)
    return len(kept)


def row_of(one: Kept) -> dict[str, Any]:
    """A picture's row. `image`: as data sets of Hugging Face have it; `label`: null where nobody has said one."""
    record, best = one.record, one.record.predictions[0]
    return {
        "image": {"bytes": one.picture.read_bytes(), "path": one.picture.name},
        "label": one.label,
        "predicted": best.label,
        "probability": best.probability,
        "energy": record.energy,
        "uncertain": record.uncertain,
        "model": record.model.name,
        "version": record.model.version,
        "precision": record.model.precision,
        "request_id": record.request_id,
        "index": record.index,
        "time": record.time,
        "chosen_by": list(record.chosen_by),
    }
