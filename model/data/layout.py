"""The folders of a data set by their names: splits, or classes and their labels. Knows no pictures."""

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
    "eval": "test",
    "evaluation": "test",
    "holdout": "test",
}
_CONTROLS = ("Cc", "Zl", "Zp")
IMAGENET_1K = Path(__file__).with_name("imagenet1k.txt")
_WORDNET_ID = re.compile(r"n\d{8}")
_YEAR = re.compile(r"(19|20)\d\d$")
_MOST_NAMED = 5


def split_named(name: str) -> Split | None:
    """Which split a folder is: `train`, `Training`, `valid`, `test_set`, `train2017`, ...; None where it is none."""
    word = _YEAR.sub("", re.sub(r"[\W_]", "", name.casefold()))
    return _SPLITS.get(word) or _SPLITS.get(re.sub(r"(set|split|data|images)$", "", word))


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, sorted, without those of the system. Raises DataError where it cannot be read."""
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
            f"{shown(folder)} holds {' and '.join(splits)}; expected splits above the classes, as in train/LABEL/*, in "
            "DATA itself."
        )


def expect_outside(folder: Path, data: Path) -> None:
    """Raises DataError where `folder`, which is written to, is DATA or within it: it would become a class."""
    if data.is_dir() and folder.resolve().is_relative_to(data.resolve()):
        raise DataError(f"{shown(folder)} is within DATA, {shown(data)}; expected a folder outside of the pictures.")


def inner_classes(folder: Path) -> str:
    """A hint where the single class folder of DATA holds folders, and may be DATA itself; else nothing."""
    inside = [path.name for path in subfolders(folder)]
    return f" {shown(folder)} holds the folders {_some(inside)}; is it DATA itself?" if len(inside) > 1 else ""


def within_several(classes: Sequence[Path]) -> list[str]:
    """A line where class folders hold folders of the same names, which may be the classes themselves.

    Raises: DataError where the name of such a class folder has a split's name in it, as `pets-train` has.
    """
    inside = {folder: {path.name for path in subfolders(folder)} for folder in classes}
    holders = [
        folder for folder in classes if any(inside[folder] & inside[other] for other in classes if other != folder)
    ]
    if not holders:
        return []
    names, shared = _some([folder.name for folder in holders]), _some(sorted(set.union(*(inside[f] for f in holders))))
    if any(split_named(word) for folder in holders for word in re.split(r"[\W_\d]+", folder.name) if word):
        raise DataError(
            f"{shown(holders[0].parent)} has {names}, which look like splits, as each holds {shared}; expected folders "
            "named train, val and test."
        )
    return [
        f"warning: the classes {names} hold folders of the same names, {shared}. Where these are the classes, name "
        "the folders above them train, val and test."
    ]


# --- labels ----------------------------------------------------------------------------------------------------------


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


def match(names: Sequence[str], labels: Sequence[str], folder: Path) -> dict[str, int]:
    """Which label each class folder of `folder` has: name -> index. All names must be labels, not the reverse.

    The thousand WordNet ids of ImageNet-1k stand for its thousand labels, which are in the order of the ids.

    Raises: DataError, naming some of the folders that are no labels, and labels that are written almost so.
    """
    indices = {unicodedata.normalize("NFC", label): index for index, label in enumerate(labels)}
    found = {name: indices.get(unicodedata.normalize("NFC", name), -1) for name in names}
    unknown = [name for name, index in found.items() if index < 0]
    if not unknown:
        return found
    if all(_WORDNET_ID.fullmatch(name) for name in names):
        return _by_wordnet_id(names, labels, folder)
    raise DataError(
        f"{shown(folder)} has {len(unknown)} class folder{'s' * (len(unknown) > 1)} that "
        f"{'are no labels' if len(unknown) > 1 else 'is no label'} of this model: {_some(unknown)}"
        f"{_hint(unknown, labels)}; expected some of {_some(labels)}."
    )


def _by_wordnet_id(names: Sequence[str], labels: Sequence[str], folder: Path) -> dict[str, int]:
    if len(set(names)) == len(labels) and tuple(labels) == read_labels(IMAGENET_1K):
        return {name: index for index, name in enumerate(sorted(names))}
    raise DataError(
        f"{shown(folder)} has {len(names)} class folders named by WordNet ids, such as {names[0]}; this model has "
        f"{len(labels)} labels in words. Expected folders named by its labels, all 1000 ids of ImageNet-1k for its "
        "1000 labels, or a model imported with --labels FILE, which names the ids one a line."
    )


def _hint(unknown: Sequence[str], labels: Sequence[str]) -> str:
    written = {simplified(label): label for label in labels}
    near = [(name, written[simplified(name)]) for name in unknown if simplified(name) in written]
    if not near:
        return ""
    return f"; {near[0][0]!r} would be the label {near[0][1]!r}, written exactly so"


def _some(words: Sequence[str]) -> str:
    more = len(words) - _MOST_NAMED
    return ", ".join(map(repr, words[:_MOST_NAMED])) + (f" and {more} more" if more > 0 else "")
