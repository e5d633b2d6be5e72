"""DATA, read: class folders or IDX files become a Dataset. Knows nothing of the network."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from model.data import idx
from model.data.catalog import CALIBRATED_BY, JUDGED_BY, Catalog, Rows, catalog, catalog_for
from model.data.dataset import Dataset, PreprocessConfig, fingerprint, hold_out, no_images
from model.data.layout import Split
from model.data.machine import picture_bytes
from model.data.pillow_warnings import ImageWarnings, collected_warnings
from model.data.reading import Progress, Reader
from model.data.scan import shown
from model.errors import DataError


def load(
    folder: Path,
    preprocess_config: PreprocessConfig,
    *,
    val_fraction: float = 0.1,
    seed: int = 0,
    labels: Sequence[str] | None = None,
    progress: Progress = lambda done, total: None,
    stream: bool | None = None,
) -> Dataset:
    """Read DATA to train on: IDX files, or class folders as model/data/catalog.py finds them.

    Where there is no validation set, a seeded `val_fraction` of each class of the training pictures becomes one.
    `labels` names the classes of IDX files, which hold only numbers, or gives the order of class folders.
    `stream`: whether pictures are decoded whenever they are asked for, not kept; None: where their pixels would take
    more memory than is for them.

    Raises: DataError, naming the folder and what was expected.
    """
    expect_folder(folder, val_fraction)
    if idx.has_split(folder, "train"):
        if stream:
            raise DataError(f"{shown(folder)} holds IDX files, which are read as a whole; expected no --stream.")
        dataset = idx.load(folder, preprocess_config, labels, val_fraction, seed)
    else:
        with collected_warnings() as warnings:
            found = catalog(folder, labels)
            rows = with_val(found.rows, val_fraction, seed)
            dataset = _read_catalog(found, rows, preprocess_config, progress, warnings, stream=stream)
    _check(dataset, folder)
    return dataset


def load_for(
    folder: Path,
    preprocess_config: PreprocessConfig,
    labels: Sequence[str],
    *,
    with_training: bool = False,
    to_calibrate: bool = False,
    judge_all: bool = False,
    val_fraction: float = 0.1,
    seed: int = 0,
    progress: Progress = lambda done, total: None,
) -> Dataset:
    """Read DATA to evaluate a classifier with these labels. Class folders may be some of its labels.

    Either `test` comes back or `val`; where there is neither, `val` is a share of the training pictures, as in load().
    with_training: whether `train` comes back too, where there are training pictures. to_calibrate: `val` comes back,
    whether there is a test set or not. judge_all: where there is neither test/ nor val/, `val` is all of the training
    pictures. So it is where the folders are some of the classes alone, as their share is not training's.

    Raises: DataError, naming the folder and what was expected, before a picture is read where the classes do not match.
    """
    expect_folder(folder, val_fraction)
    if idx.has_split(folder, "train"):
        dataset = idx.load(folder, preprocess_config, labels, val_fraction, seed, may_be_some=True)
    elif idx.has_split(folder, "test"):
        dataset = idx.load_test(folder, preprocess_config, labels)
    else:
        with collected_warnings() as warnings:
            judged_by = CALIBRATED_BY if to_calibrate else JUDGED_BY
            found = catalog_for(folder, labels, judged_by=judged_by, with_training=with_training)
            are_some = len({index for rows in found.rows.values() for _, index in rows}) < len(labels)
            if list(found.rows) == ["train"] and (judge_all or (are_some and not with_training and not to_calibrate)):
                found = _all_judged(found, folder, may_be_known=not judge_all)
            rows = found.rows if "test" in found.rows else with_val(found.rows, val_fraction, seed)
            if not with_training:
                rows = {split: files for split, files in rows.items() if split != "train"}
            dataset = _read_catalog(found, rows, preprocess_config, progress, warnings)
    if to_calibrate:
        dataset = replace(dataset, test=None)
    if not len(dataset.judged[1]):
        raise DataError(f"{shown(folder)} has no readable picture to judge by; expected some.{_first_reason(dataset)}")
    return dataset


def expect_folder(folder: Path, val_fraction: float) -> None:
    """Raises DataError where DATA is no folder, its name is no label, or the share to hold out is none."""
    if not folder.is_dir():
        raise DataError(f"{shown(folder)} is not a folder; expected class folders or IDX files.")
    if shown(folder.resolve().name) != folder.resolve().name:
        raise DataError(f"{shown(folder)} is a name with control characters or not UTF-8; expected another name.")
    if not 0 < val_fraction < 1:
        raise DataError(f"val_fraction is {val_fraction}; expected more than 0 and less than 1.")


def _check(dataset: Dataset, folder: Path) -> None:
    if len(dataset.labels) < 2:
        raise DataError(f"{shown(folder)} has {len(dataset.labels)} class; expected at least 2.")
    counts = np.bincount(dataset.train.labels, minlength=len(dataset.labels))
    if not counts.all():
        label = dataset.labels[int(counts.argmin())]
        raise DataError(
            f"{shown(folder)} has no readable training picture of {label!r}.{_first_reason(dataset, label)}"
        )
    if not len(dataset.val):
        raise DataError(f"{shown(folder)} has no readable validation picture.")


def _first_reason(dataset: Dataset, label: str = "") -> str:
    """The reason for the first unreadable picture, of a class or of any."""
    reasons = [reason for path, reason in dataset.skipped if not label or label in path.parts]
    return f" {reasons[0]}" if reasons else ""


# --- class folders ---------------------------------------------------------------------------------------------------


def with_val(rows: dict[Split, Rows], val_fraction: float, seed: int) -> dict[Split, Rows]:
    """The dataset, with a share of the training pictures as validation set where it has none."""
    if "val" in rows:
        return rows
    train = rows["train"]
    kept, held_out = hold_out(np.array([label for _, label in train], dtype=np.int64), val_fraction, seed)
    return {**rows, "train": [train[i] for i in kept], "val": [train[i] for i in held_out]}


def _all_judged(found: Catalog, folder: Path, *, may_be_known: bool) -> Catalog:
    """The training pictures as validation pictures. may_be_known: whether the network may have been trained on them."""
    known = "; those that the network was trained on make the accuracy look better than it is" if may_be_known else ""
    note = (
        f"{'warning: ' if known else ''}{shown(folder)} has no val/ and no test/: all its pictures are judged{known}."
    )
    return replace(found, rows={"val": found.rows["train"]}, notes=[*found.notes, note])


def _read_catalog(
    found: Catalog,
    rows: dict[Split, Rows],
    preprocess_config: PreprocessConfig,
    progress: Progress,
    warnings: ImageWarnings,
    *,
    stream: bool | None = False,
) -> Dataset:
    reader = Reader(rows, preprocess_config, warnings, progress)
    notes: list[str] = []
    nothing = no_images(preprocess_config)
    if stream or (stream is None and reader.num_bytes > picture_bytes()):
        sets, digest = reader.streamed()
        notes.append(_streamed_note(reader.num_bytes))
    else:
        sets = reader.into_memory()
        digest = fingerprint(sets.get("train", nothing), sets.get("val", nothing), sets.get("test"))
    return Dataset(
        found.labels,
        sets.get("train", nothing),
        sets.get("val", nothing),
        sets.get("test"),
        digest,
        tuple(sorted([*found.skipped, *reader.skipped])),
        (*found.notes, *notes, *warnings.lines()),
        is_held_out="val" in rows and "val" not in found.rows,
    )


def _streamed_note(num_bytes: int) -> str:
    most = picture_bytes()
    why = f", more than the {_gib(most)} that are for pictures" if num_bytes > most else ""
    return f"pictures are decoded while the network trains; as pixels they would take {_gib(num_bytes)}{why}"


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.3g} GiB"
