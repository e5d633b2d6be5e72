"""Pictures and labels for training: class folders, or IDX files. Knows nothing of the network.

Every picture goes through preprocess.py once, at loading, and is kept as uint8 pixels; what changes from epoch to epoch
is model/data/augment.py's.
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

from model.data import idx
from model.data.catalog import Catalog, Rows, catalog, catalog_for
from model.data.layout import Split
from model.data.pillow_warnings import ImageWarnings, collected_warnings
from model.data.scan import FORMATS, shown
from model.errors import DataError
from model.preprocess import Pixels, to_pixels, to_square
from model.spec import Fit, Interpolation

_IN_MEMORY_BYTES = 4 << 30  # above this, pixels lie in a temporary file that the system pages in

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class PreprocessConfig:
    """How a picture becomes pixels: the part of a ModelSpec that loading needs."""

    image_size: int
    channels: int = 3
    fit: Fit = field(default_factory=Fit)
    interpolation: Interpolation = "bicubic"


@dataclass(frozen=True)
class ImageSet:
    """pixels: uint8 [N, H, W, C]; labels: int64 [N], each an index into Dataset.labels.

    paths: the N files, where the pictures come from files of their own; else empty.
    """

    pixels: Pixels
    labels: NDArray[np.int64]
    paths: tuple[Path, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """What was found. `skipped` names each picture that could not be read, and why; `notes` are lines for people.

    is_held_out: whether the validation pictures are a share of the training pictures, in place of a set of their own.
    """

    labels: tuple[str, ...]
    train: ImageSet
    val: ImageSet
    test: ImageSet | None
    fingerprint: str
    skipped: tuple[tuple[Path, str], ...] = ()
    notes: tuple[str, ...] = ()
    is_held_out: bool = False

    @property
    def judged(self) -> tuple[str, ImageSet]:
        """What a classifier is judged on, with its name: the test pictures, or the validation pictures."""
        return ("test", self.test) if self.test is not None else ("validation", self.val)


def load(
    folder: Path,
    preprocess_config: PreprocessConfig,
    *,
    val_fraction: float = 0.1,
    seed: int = 0,
    labels: Sequence[str] | None = None,
    progress: Progress = lambda done, total: None,
) -> Dataset:
    """Read DATA to train on: IDX files, or class folders as model/data/catalog.py finds them.

    Where there is no validation set, a seeded `val_fraction` of each class of the training pictures becomes one.
    `labels` names the classes of IDX files, which hold only numbers, or gives the order of class folders.

    Raises: DataError, naming the folder and what was expected.
    """
    _expect_folder(folder, val_fraction)
    if idx.has_split(folder, "train"):
        dataset = _load_idx(folder, preprocess_config, labels, val_fraction, seed)
    else:
        with collected_warnings() as warnings:
            found = catalog(folder, labels)
            rows = _with_val(found.rows, val_fraction, seed)
            dataset = _read_catalog(found, rows, preprocess_config, progress, warnings)
    _check(dataset, folder)
    return dataset


def load_for(
    folder: Path,
    preprocess_config: PreprocessConfig,
    labels: Sequence[str],
    *,
    with_training: bool = False,
    val_fraction: float = 0.1,
    seed: int = 0,
    progress: Progress = lambda done, total: None,
) -> Dataset:
    """Read DATA to judge a classifier with these labels on. Class folders may be some of its labels.

    Either `test` comes back or `val`; where there is neither, `val` is a share of the training pictures, as in load().
    with_training: whether `train` comes back too, where there are training pictures.

    Raises: DataError, naming the folder and what was expected, before a picture is read where the classes are others.
    """
    _expect_folder(folder, val_fraction)
    if idx.has_split(folder, "train"):
        dataset = _load_idx(folder, preprocess_config, labels, val_fraction, seed, may_be_some=True)
    elif idx.has_split(folder, "test"):
        dataset = _load_idx_test(folder, preprocess_config, labels)
    else:
        with collected_warnings() as warnings:
            found = catalog_for(folder, labels, with_training=with_training)
            rows = found.rows if "test" in found.rows else _with_val(found.rows, val_fraction, seed)
            if not with_training:
                rows = {split: files for split, files in rows.items() if split != "train"}
            dataset = _read_catalog(found, rows, preprocess_config, progress, warnings)
    if not len(dataset.judged[1]):
        raise DataError(f"{shown(folder)} has no readable picture to judge by; expected some.{_first_reason(dataset)}")
    return dataset


def read_pixels(path: Path, preprocess_config: PreprocessConfig) -> Pixels:
    """One file as uint8 [image_size, image_size, channels]. Raises DataError, naming the file."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            pixels = to_pixels(image, preprocess_config.channels)
    except Exception as error:  # broken files raise almost anything inside a decoder
        reason = str(error).removesuffix(f" {str(path)!r}") or type(error).__name__
        raise DataError(f"{shown(path)} is not a readable picture: {shown(reason)}") from error
    return to_square(pixels, preprocess_config.image_size, preprocess_config.fit, preprocess_config.interpolation)


def _expect_folder(folder: Path, val_fraction: float) -> None:
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
    """What was wrong with the first picture that could not be read, of a class or of any."""
    reasons = [reason for path, reason in dataset.skipped if not label or label in path.parts]
    return f" {reasons[0]}" if reasons else ""


# --- IDX files -------------------------------------------------------------------------------------------------------


def _load_idx(
    folder: Path,
    preprocess_config: PreprocessConfig,
    labels: Sequence[str] | None,
    val_fraction: float,
    seed: int,
    *,
    may_be_some: bool = False,
) -> Dataset:
    images, classes = idx.read_split(folder, "train")
    num_classes = int(classes.max(initial=-1)) + 1
    names = tuple(labels) if labels is not None else tuple(str(index) for index in range(num_classes))
    if len(names) != num_classes and not (may_be_some and len(names) > num_classes):
        raise DataError(f"{shown(folder)} has {num_classes} classes; expected as many labels, not {len(names)}.")
    train, val = (
        ImageSet(_fitted(images[chosen], preprocess_config), classes[chosen])
        for chosen in _split(classes, val_fraction, seed)
    )
    test = _idx_test(folder, preprocess_config, len(names)) if idx.has_split(folder, "test") else None
    return Dataset(names, train, val, test, _fingerprint(train, val, test), is_held_out=True)


def _load_idx_test(folder: Path, preprocess_config: PreprocessConfig, labels: Sequence[str]) -> Dataset:
    """A test split alone."""
    test, nothing = _idx_test(folder, preprocess_config, len(labels)), _no_images(preprocess_config)
    return Dataset(tuple(labels), nothing, nothing, test, _fingerprint(test))


def _idx_test(folder: Path, preprocess_config: PreprocessConfig, num_classes: int) -> ImageSet:
    images, classes = idx.read_split(folder, "test")
    if classes.max(initial=0) >= num_classes:
        raise DataError(
            f"{shown(folder)} has the class {classes.max()} in its test labels; expected below {num_classes}."
        )
    return ImageSet(_fitted(images, preprocess_config), classes)


def _fitted(images: NDArray[np.uint8], preprocess_config: PreprocessConfig) -> Pixels:
    """Grey images [N, H, W] as the network sees them."""
    pixels = _allocate(len(images), preprocess_config)
    for index, image in enumerate(images):
        stacked = np.repeat(image[:, :, np.newaxis], preprocess_config.channels, axis=2)
        pixels[index] = to_square(
            stacked, preprocess_config.image_size, preprocess_config.fit, preprocess_config.interpolation
        )
    return pixels


# --- class folders ---------------------------------------------------------------------------------------------------


def _with_val(rows: dict[Split, Rows], val_fraction: float, seed: int) -> dict[Split, Rows]:
    """The same where there is a validation set; else with a share of the training pictures as one."""
    if "val" in rows:
        return rows
    train = rows["train"]
    kept, held_out = _split(np.array([label for _, label in train], dtype=np.int64), val_fraction, seed)
    return {**rows, "train": [train[i] for i in kept], "val": [train[i] for i in held_out]}


def _read_catalog(
    found: Catalog,
    rows: dict[Split, Rows],
    preprocess_config: PreprocessConfig,
    progress: Progress,
    warnings: ImageWarnings,
) -> Dataset:
    sets, skipped = _read_all(rows, preprocess_config, progress, warnings)
    nothing = _no_images(preprocess_config)
    train, val, test = sets.get("train", nothing), sets.get("val", nothing), sets.get("test")
    return Dataset(
        found.labels,
        train,
        val,
        test,
        _fingerprint(train, val, test),
        tuple(sorted([*found.skipped, *skipped])),
        (*found.notes, *warnings.lines()),
        is_held_out="val" in rows and "val" not in found.rows,
    )


def _read_all(
    files: dict[Split, Rows], preprocess_config: PreprocessConfig, progress: Progress, warnings: ImageWarnings
) -> tuple[dict[Split, ImageSet], list[tuple[Path, str]]]:
    """Each split's readable pictures, and the others with the reason. The pictures of a split lie side by side."""
    total = sum(map(len, files.values()))
    pixels, used, done = _allocate(total, preprocess_config), 0, 0
    sets: dict[Split, ImageSet] = {}
    skipped: list[tuple[Path, str]] = []

    def read(path: Path) -> Pixels | DataError:
        try:
            with warnings.reading(path):
                return read_pixels(path, preprocess_config)
        except DataError as error:
            return error

    with ThreadPoolExecutor() as pool:
        for split, rows in files.items():
            start, labels, paths = used, [], []
            for (path, label), outcome in zip(rows, pool.map(read, [path for path, _ in rows]), strict=True):
                done += 1
                progress(done, total)
                if isinstance(outcome, DataError):
                    skipped.append((path, str(outcome)))
                    continue
                pixels[used] = outcome
                labels.append(label)
                paths.append(path)
                used += 1
            sets[split] = ImageSet(pixels[start:used], np.array(labels, dtype=np.int64), tuple(paths))
    return sets, skipped


# --- both ------------------------------------------------------------------------------------------------------------


def _no_images(preprocess_config: PreprocessConfig) -> ImageSet:
    return ImageSet(_allocate(0, preprocess_config), np.empty(0, dtype=np.int64))


def _allocate(count: int, preprocess_config: PreprocessConfig) -> Pixels:
    shape = (count, preprocess_config.image_size, preprocess_config.image_size, preprocess_config.channels)
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


def _fingerprint(*sets: ImageSet | None) -> str:
    """Of every pixel as the network sees it, and every label."""
    digest = hashlib.sha256()
    for images in sets:
        if images is not None:
            digest.update(repr(images.pixels.shape).encode())
            digest.update(np.ascontiguousarray(images.pixels).data)
            digest.update(images.labels.data)
    return digest.hexdigest()
