"""What the folders of a data set are by their names: splits, or classes. Knows no files."""

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from model.data.scan import is_of_system, shown
from model.errors import DataError

Split = Literal["train", "val", "test"]

_SPLITS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
_CONTROLS = ("Cc", "Zl", "Zp")


def split_named(name: str) -> Split | None:
    """Which split a folder is: `train`, `Training`, `valid`, `test_set`, ...; None where it is none."""
    word = re.sub(r"[\W_]", "", name.casefold())
    return _SPLITS.get(word) or _SPLITS.get(re.sub(r"(set|split|data|images)$", "", word))


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, sorted, without the system's own. Raises DataError where it cannot be read."""
    try:
        return sorted(path for path in folder.iterdir() if not is_of_system(path.name) and path.is_dir())
    except OSError as error:
        raise DataError(f"{shown(folder)} cannot be read: {error.strerror}.") from error


def find_splits(folder: Path) -> dict[Split, Path]:
    """The folders in `folder` that are splits. Raises DataError where two of them are the same one."""
    found: dict[Split, Path] = {}
    for path in subfolders(folder):
        split = split_named(path.name)
        if split is None:
            continue
        if split in found:
            raise DataError(f"{shown(folder)} has {found[split].name} and {path.name}; expected one of the two.")
        found[split] = path
    return found


def class_folders(root: Path) -> list[Path]:
    """The class folders of a split. Raises DataError for a name that cannot be a label."""
    folders = subfolders(root)
    written: dict[str, Path] = {}
    for folder in folders:
        _expect_label(folder)
        other = written.setdefault(unicodedata.normalize("NFC", folder.name), folder)
        if other != folder:
            raise DataError(f"{shown(root)} has two class folders named {folder.name!r}; expected one.")
    return folders


def alike(names: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of names that differ in nothing but case, blanks and punctuation."""
    seen: dict[str, str] = {}
    return [(seen[key], name) for name in names if seen.setdefault(key := simplified(name), name) != name]


def simplified(name: str) -> str:
    """A name without case, blanks and punctuation; the name itself where nothing else is in it."""
    return re.sub(r"[\W_]", "", unicodedata.normalize("NFC", name).casefold()) or name


def _expect_label(folder: Path) -> None:
    """Raises DataError where the folder's name is no label, or is a split's."""
    name = folder.name
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{shown(folder)} is a class folder whose name is not UTF-8; expected another name.") from error
    if any(unicodedata.category(character) in _CONTROLS for character in name):
        raise DataError(f"{shown(folder)} has a control character in its name; expected a label of one line.")
    if split_named(name) is not None:
        raise DataError(
            f"{shown(folder)} is named like a split and lies where class folders do; expected train/ with val/ or "
            "test/ in DATA itself, or another name for the class."
        )
    splits = [path.name for path in subfolders(folder) if split_named(path.name) is not None]
    if len(splits) > 1:
        raise DataError(
            f"{shown(folder)} holds {' and '.join(splits)}; expected splits above the classes, as in train/LABEL/*."
        )
