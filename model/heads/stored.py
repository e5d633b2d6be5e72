"""The embeddings that a head was fitted to, beside its checkpoint: more classes can be added without the old pictures.

Knows nothing of networks.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model.errors import CheckpointError
from model.heads.embedding import Embedded
from model.network.checkpoint_folder import write_atomically, write_failure
from model.network.run_folder import EMBEDDINGS


@dataclass(frozen=True)
class Stored:
    """The pictures of a checkpoint. key: the trunk's, and of how it sees pictures."""

    key: str
    labels: tuple[str, ...]
    train: Embedded
    val: Embedded
    is_held_out: bool


def write(stored: Stored, folder: Path) -> None:
    """Make the folder where it is missing. Raises CheckpointError where it cannot be written."""

    def save(path: Path) -> None:
        with path.open("wb") as file:
            np.savez(
                file,
                key=np.array(stored.key),
                labels=np.array(stored.labels),
                is_held_out=np.array(stored.is_held_out),
                **_arrays("train", stored.train),  # type: ignore[arg-type]
                **_arrays("val", stored.val),  # type: ignore[arg-type]
            )

    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / EMBEDDINGS, save)
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be written: {write_failure(error, folder)}") from error


def read(folder: Path, key: str, labels: tuple[str, ...]) -> Stored:
    """labels: the checkpoint's, with which those of the embeddings begin; more are of a run that was killed.

    Raises: CheckpointError where there are none, or they are of another trunk or of other classes.
    """
    path = folder / EMBEDDINGS
    if not path.is_file():
        raise CheckpointError(
            f"{folder} has no {EMBEDDINGS}; expected a checkpoint that mixer train --freeze has made."
        )
    try:
        with np.load(path) as content:
            stored = Stored(
                str(content["key"]),
                tuple(content["labels"].tolist()),
                _embedded("train", content),
                _embedded("val", content),
                bool(content["is_held_out"]),
            )
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path} cannot be read as embeddings: {error}") from error
    if stored.train.vectors.ndim != 2 or stored.val.vectors.ndim != 2:
        raise CheckpointError(f"{path} has embeddings of an unknown form; expected a row for each picture.")
    if stored.key != key:
        raise CheckpointError(
            f"{path} is of other weights or another way to see pictures than {folder} has now; expected those that "
            "--freeze left. Train on all pictures with --freeze, from this checkpoint."
        )
    if stored.labels[: len(labels)] != labels:
        raise CheckpointError(
            f"{path} is of {len(stored.labels)} classes; expected the {len(labels)} of {folder}. Train on all pictures "
            "with --freeze, from this checkpoint."
        )
    return stored


def _arrays(split: str, embedded: Embedded) -> dict[str, "np.ndarray[tuple[int, ...], np.dtype[np.generic]]"]:
    digests = np.frombuffer(b"".join(embedded.digests), np.uint8).reshape(len(embedded), -1 if len(embedded) else 16)
    return {
        f"{split}_vectors": embedded.vectors,
        f"{split}_labels": embedded.labels,
        f"{split}_digests": digests,
    }


def _embedded(split: str, content: "np.lib.npyio.NpzFile") -> Embedded:
    digests = tuple(row.tobytes() for row in content[f"{split}_digests"])
    return Embedded(content[f"{split}_vectors"], content[f"{split}_labels"], digests)
