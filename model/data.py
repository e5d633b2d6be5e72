"""Pictures and labels for training: class folders, or IDX files. Knows nothing of the network.

Every picture goes through preprocess.py once, at loading, and is kept as uint8 pixels; what changes from epoch to epoch
is augment.py's.
"""

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model import idx
from model.errors import DataError
from model.preprocess import Pixels, to_pixels, to_square
from model.spec import Fit, Interpolation

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})
_IN_MEMORY_BYTES = 4 << 30  # above this, pixels lie in a temporary file that the system pages in

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Picturing:
    """How a picture becomes pixels: the part of a ModelSpec that loading needs."""

    image_size: int
    channels: int = 3
    fit: Fit = field(default_factory=Fit)
    interpolation: Interpolation = "bicubic"


@dataclass(frozen=True)
class PictureSet:
    """pixels: uint8 [N, H, W, C]; labels: int64 [N], each an index into Dataset.labels."""

    pixels: Pixels
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """What load() found. `skipped` names each picture that could not be read, and why."""

    labels: tuple[str, ...]
    train: PictureSet
    val: PictureSet
    test: PictureSet | None
    fingerprint: str
    skipped: tuple[tuple[Path, str], ...] = ()


def load(
    folder: Path,
    picturing: Picturing,
    *,
    val_fraction: float = 0.1,
    seed: int = 0,
    labels: Sequence[str] | None = None,
    progress: Progress = lambda done, total: None,
) -> Dataset:
    """Read DATA: IDX files, `train/LABEL/*` with `val/LABEL/*` and perhaps `test/LABEL/*`, or `LABEL/*`.

    Where there is no validation set, a seeded `val_fraction` of each class of the training pictures becomes one.
    `labels` names the classes of IDX files, which hold only numbers.

    Raises: DataError, naming the folder and what was expected.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; expected class folders or IDX files.")
    if not 0 < val_fraction < 1:
        raise DataError(f"val_fraction is {val_fraction}; expected more than 0 and less than 1.")
    if idx.has_split(folder, "train"):
        dataset = _load_idx(folder, picturing, labels, val_fraction, seed)
    else:
        dataset = _load_class_folders(folder, picturing, val_fraction, seed, progress)
    _check(dataset, folder)
    return dataset


def picture_files(folder: Path) -> list[Path]:
    """Every file below `folder` that is named like a picture, sorted; nothing hidden, and nothing in hidden folders."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in PICTURE_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )


def read_pixels(path: Path, picturing: Picturing) -> Pixels:
    """One file as uint8 [image_size, image_size, channels]. Raises DataError, naming the file."""
    try:
        with Image.open(path) as image:
            pixels = to_pixels(image, picturing.channels)
    except Exception as error:  # broken files raise almost anything inside a decoder
        raise DataError(f"{path} is not a readable picture: {str(error) or type(error).__name__}") from error
    return to_square(pixels, picturing.image_size, picturing.fit, picturing.interpolation)


def read_labels(path: Path) -> tuple[str, ...]:
    """The labels in a text file, one a line. Raises DataError for a missing file, an empty line or a repeated label."""
    try:
        lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as labels, one a line: {error}") from error
    labels = tuple(line.strip() for line in lines)
    if not all(labels):
        raise DataError(f"{path} has an empty line at {labels.index('') + 1}; expected a label on each.")
    if len(set(labels)) < len(labels):
        repeated = next(label for label in labels if labels.count(label) > 1)
        raise DataError(f"{path} has the label {repeated!r} twice; expected each once.")
    return labels


def _check(dataset: Dataset, folder: Path) -> None:
    if len(dataset.labels) < 2:
        raise DataError(f"{folder} has {len(dataset.labels)} class; expected at least 2.")
    counts = np.bincount(dataset.train.labels, minlength=len(dataset.labels))
    if not counts.all():
        raise DataError(f"{folder} has no readable training picture of {dataset.labels[int(counts.argmin())]!r}.")
    if not len(dataset.val):
        raise DataError(f"{folder} has no readable validation picture.")


# --- IDX files -------------------------------------------------------------------------------------------------------


def _load_idx(
    folder: Path, picturing: Picturing, labels: Sequence[str] | None, val_fraction: float, seed: int
) -> Dataset:
    images, classes = idx.read_split(folder, "train")
    num_classes = int(classes.max(initial=-1)) + 1
    names = tuple(labels) if labels is not None else tuple(str(index) for index in range(num_classes))
    if len(names) != num_classes:
        raise DataError(f"{folder} has {num_classes} classes; expected as many labels, not {len(names)}.")
    train, val = (
        PictureSet(_fitted(images[chosen], picturing), classes[chosen])
        for chosen in _split(classes, val_fraction, seed)
    )
    test = None
    if idx.has_split(folder, "test"):
        images, classes = idx.read_split(folder, "test")
        if classes.max(initial=0) >= num_classes:
            raise DataError(f"{folder} has the class {classes.max()} in its test labels; expected below {num_classes}.")
        test = PictureSet(_fitted(images, picturing), classes)
    return Dataset(names, train, val, test, _fingerprint(train, val, test))


def _fitted(images: NDArray[np.uint8], picturing: Picturing) -> Pixels:
    """Grey images [N, H, W] as the network sees them."""
    pixels = _allocate(len(images), picturing)
    for index, image in enumerate(images):
        stacked = np.repeat(image[:, :, np.newaxis], picturing.channels, axis=2)
        pixels[index] = to_square(stacked, picturing.image_size, picturing.fit, picturing.interpolation)
    return pixels


# --- class folders ---------------------------------------------------------------------------------------------------


def _load_class_folders(
    folder: Path, picturing: Picturing, val_fraction: float, seed: int, progress: Progress
) -> Dataset:
    splits = {name: folder / name for name in ("train", "val", "test") if (folder / name).is_dir()}
    if "train" not in splits:
        splits = {"train": folder}
    labels = _class_names(splits["train"])
    if not labels:
        raise DataError(
            f"{folder} holds no class folders with pictures and no IDX files; expected LABEL/*.jpg or the like."
        )
    files = {
        split: [
            (path, labels.index(label))
            for label in _class_names(root)
            for path in picture_files(root / label)
            if _known(label, labels, root)
        ]
        for split, root in splits.items()
    }
    if "val" not in files:
        everything = files["train"]
        chosen = _split(np.array([label for _, label in everything]), val_fraction, seed)
        files |= {name: [everything[i] for i in rows] for name, rows in zip(("train", "val"), chosen, strict=True)}
    sets, skipped = _read_all(files, picturing, progress)
    fingerprint = _fingerprint(sets["train"], sets["val"], sets.get("test"))
    return Dataset(labels, sets["train"], sets["val"], sets.get("test"), fingerprint, skipped)


def _class_names(root: Path) -> tuple[str, ...]:
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    return tuple(path.name for path in folders if picture_files(path))


def _known(label: str, labels: tuple[str, ...], root: Path) -> bool:
    if label not in labels:
        raise DataError(f"{root / label} is a class that the training pictures do not have.")
    return True


def _read_all(
    files: dict[str, list[tuple[Path, int]]], picturing: Picturing, progress: Progress
) -> tuple[dict[str, PictureSet], tuple[tuple[Path, str], ...]]:
    """Each split's readable pictures, and the others with the reason. The pictures of a split lie side by side."""
    total = sum(map(len, files.values()))
    pixels, used, done = _allocate(total, picturing), 0, 0
    sets: dict[str, PictureSet] = {}
    skipped: list[tuple[Path, str]] = []

    def read(path: Path) -> Pixels | DataError:
        try:
            return read_pixels(path, picturing)
        except DataError as error:
            return error

    with ThreadPoolExecutor() as pool:
        for split, rows in files.items():
            start, labels = used, []
            for (path, label), outcome in zip(rows, pool.map(read, [path for path, _ in rows]), strict=True):
                done += 1
                progress(done, total)
                if isinstance(outcome, DataError):
                    skipped.append((path, str(outcome)))
                    continue
                pixels[used] = outcome
                labels.append(label)
                used += 1
            sets[split] = PictureSet(pixels[start:used], np.array(labels, dtype=np.int64))
    return sets, tuple(skipped)


# --- both ------------------------------------------------------------------------------------------------------------


def _allocate(count: int, picturing: Picturing) -> Pixels:
    shape = (count, picturing.image_size, picturing.image_size, picturing.channels)
    if np.prod(shape, dtype=np.int64) <= _IN_MEMORY_BYTES:
        return np.empty(shape, dtype=np.uint8)
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, dtype=np.uint8, mode="w+", shape=shape)


def _split(labels: NDArray[np.int64], val_fraction: float, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows for training and for validation: a seeded share of every class, at least one picture where it has two."""
    generator = np.random.default_rng(seed)
    held_out = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        held_out[members[: min(len(members) - 1, max(1, round(len(members) * val_fraction)))]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def _fingerprint(*sets: PictureSet | None) -> str:
    """Of every pixel as the network sees it, and every label."""
    digest = hashlib.sha256()
    for pictures in sets:
        if pictures is not None:
            digest.update(repr(pictures.pixels.shape).encode())
            digest.update(np.ascontiguousarray(pictures.pixels).data)
            digest.update(pictures.labels.data)
    return digest.hexdigest()
