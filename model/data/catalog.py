"""Which pictures a folder has, in which splits and of which labels. Knows names and files, and decodes nothing.

Two ways: for training, where the folders give the labels, and for a classifier whose labels are known already.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from model.data.layout import (
    Split,
    alike,
    class_folders,
    find_splits,
    inner_classes,
    match,
    simplified,
    subfolders,
    within_several,
)
from model.data.scan import File, Scan, is_of_system, scan, shown
from model.errors import DataError

JUDGED_BY: tuple[Split, ...] = ("test", "val", "train")  # the first of these that exists
CALIBRATED_BY: tuple[Split, ...] = ("val", "train")
_MOST_NAMED = 5
Rows = list[tuple[Path, int]]


@dataclass(frozen=True)
class Catalog:
    """rows: each split's pictures with their labels' indices, by label and path.

    skipped: files that should be pictures and are not, with the reason. notes: other lines for the user.
    """

    labels: tuple[str, ...]
    rows: dict[Split, Rows]
    skipped: list[tuple[Path, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def catalog(folder: Path, labels: Sequence[str] | None = None, *, fewest: int = 2) -> Catalog:
    """The pictures to train on: `train/LABEL/*`, perhaps with val/ and test/, or `LABEL/*`.

    labels: their order; without them, the class folders' alphabetical order. fewest: classes that there have to be.

    Raises: DataError for a class without a picture, a validation class that is not trained, a name that is no label.
    """
    splits = find_splits(folder)
    if splits and "train" not in splits:
        others = " and ".join(path.name for path in splits.values())
        raise DataError(f"{shown(folder)} has {others} and no train/; expected both, or class folders alone.")
    roots = splits or {"train": folder}
    classes = class_folders(roots["train"])
    if not classes:
        raise DataError(_without_classes(folder, roots["train"]))
    if len(classes) < fewest:
        raise DataError(f"{shown(roots['train'])} has 1 class; expected at least {fewest}.{inner_classes(classes[0])}")
    names = tuple(path.name for path in classes)
    indices = {name: index for index, name in enumerate(names)} if labels is None else match(names, labels, folder)
    if labels is not None and len(indices) < len(labels):
        missing = [label for index, label in enumerate(labels) if index not in indices.values()]
        raise DataError(f"{shown(folder)} has no class folder for {_some(map(repr, missing))}; expected one each.")
    found = _Finding(folder, indices)
    found.notes += within_several(classes)
    for split, root in found.labelled(roots):
        found.look(split, root)
    found.expect_images(roots["train"])
    found.notes += [f"warning: the classes {a!r} and {b!r} are written almost alike." for a, b in alike(names)]
    finished = found.finish(tuple(labels) if labels is not None else names, splits)
    found.expect_own_images(finished.rows["train"])
    return finished


def catalog_for(
    folder: Path, labels: Sequence[str], *, judged_by: Sequence[Split] = JUDGED_BY, with_training: bool = False
) -> Catalog:
    """The pictures to evaluate a classifier with these labels on: the first split of `judged_by`, or `LABEL/*`.

    Class folders may be some of the labels only. with_training: also the training pictures.

    Raises: DataError, before any picture is looked at, for a class folder that is no label.
    """
    splits = find_splits(folder)
    roots = splits or {"train": folder}
    names = sorted({path.name for root in roots.values() for path in class_folders(root)})
    if not names:
        raise DataError(_without_classes(folder, next(iter(roots.values()))))
    found = _Finding(folder, match(names, labels, folder))
    if len(names) < len(labels):
        found.notes.append(f"{shown(folder)} has {len(names)} of the model's {len(labels)} classes.")
    roots = dict(found.labelled(roots))
    judged = next((split for split in judged_by if split in roots), None)
    if judged is None:
        alone = " and ".join(path.name for path in roots.values())
        raise DataError(f"{shown(folder)} has {alone} alone; expected {' or '.join(judged_by)}, or class folders.")
    for split, root in roots.items():
        if split == judged or (with_training and split == "train"):
            found.look(split, root)
    return found.finish(tuple(labels), splits)


class _Finding:
    """Builds a catalog."""

    def __init__(self, folder: Path, indices: Mapping[str, int]) -> None:
        self._folder, self._indices = folder, indices
        self._files: dict[Split, list[tuple[File, int]]] = {}
        self._others: list[Path] = []
        self._unreadable: dict[str, list[tuple[Path, str]]] = {}
        self.skipped: list[tuple[Path, str]] = []
        self.notes: list[str] = []
        self._same: list[tuple[Path, int, Path]] = []  # names of files that have another, with it

    def labelled(self, roots: Mapping[Split, Path]) -> Iterator[tuple[Split, Path]]:
        """The splits that have class folders; the others are noted."""
        for split, root in roots.items():
            if class_folders(root):
                yield split, root
                continue
            count = len(scan(root, deep=False).images)
            what = f"{count} picture{'s' * (count != 1)} in no class folder" if count else "no class folders"
            self.notes.append(f"warning: {shown(root)} is not used: it has {what}; expected LABEL/*.jpg or the like.")

    def look(self, split: Split, root: Path) -> None:
        """Scan the class folders of a split."""
        files, unknown = self._files.setdefault(split, []), []
        for path in class_folders(root):
            seen = scan(path)
            index = self._indices.get(path.name)
            if index is None and seen.images:
                unknown.append(path.name)
            if index is not None:
                files += [(file, index) for file in seen.images]
            self._note(path, seen, split)
        self._expect_known(root, unknown)
        self._note_beside(root)

    def expect_images(self, root: Path) -> None:
        """Raises DataError for a class folder of the training split that has no picture."""
        present = {index for _, index in self._files["train"]}
        for name, index in self._indices.items():
            if index not in present:
                reasons = [reason for path, reason in self.skipped if path.is_relative_to(root / name)]
                because = f" {reasons[0]}" if reasons else ""
                raise DataError(
                    f"{shown(root / name)} is a class without a picture; expected some, or no folder.{because}"
                )

    def _expect_known(self, root: Path, unknown: Sequence[str]) -> None:
        """Raises DataError for class folders of a split that are none of the training pictures'."""
        if not unknown:
            return
        written = {simplified(name): name for name in self._indices}
        near = next(
            (f" {name!r} is written {written[k]!r} there." for name in unknown if (k := simplified(name)) in written),
            "",
        )
        if len(unknown) == 1:
            raise DataError(f"{shown(root / unknown[0])} is a class that the training pictures do not have.{near}")
        some = _some(map(repr, unknown))
        raise DataError(
            f"{shown(root)} has {len(unknown)} classes that the training pictures do not have: {some}.{near}"
        )

    def finish(self, labels: tuple[str, ...], splits: Mapping[Split, Path]) -> Catalog:
        """The catalog, each file once."""
        if self._others:
            count = len(self._others)
            self.notes.append(f"not used: {count} other file{'s' * (count > 1)}: {_some(map(shown, self._others))}.")
        used = {path.name for path in splits.values()}
        beside = [path for path in subfolders(self._folder) if splits and path.name not in used]
        if beside:
            self.notes.append(
                f"warning: not used, because of {_some(sorted(used))} beside: {_some(map(shown, beside))}."
            )
        return Catalog(labels, self._each_once(labels), self.skipped, self.notes)

    def expect_own_images(self, rows: Rows) -> None:
        """Raises DataError for a class all of whose files are others' too, as a link to a class folder has."""
        present = {index for _, index in rows}
        for path, index, first in self._same:
            if index not in present:
                name = next(name for name, own in self._indices.items() if own == index)
                raise DataError(
                    f"The class {name!r} has no picture of its own: {shown(path)} is the same file as {shown(first)}. "
                    "Expected other pictures, or no folder."
                )

    def _note(self, path: Path, seen: Scan, split: Split) -> None:
        self.skipped += seen.unreadable
        self._others += seen.others
        if not seen.images and split != "train" and path.name in self._indices:
            self.notes.append(f"warning: {shown(path)} is a class without a picture.")

    def _note_beside(self, root: Path) -> None:
        """Note files and folders beside the class folders."""
        seen = scan(root, deep=False)
        self.skipped += [(path, reason) for path, reason in seen.unreadable if not path.is_dir()]
        if seen.images:
            some = _some(shown(file.path) for file in seen.images)
            self.notes.append(f"warning: not used, because they lie in no class folder: {some}.")
        system = sorted(path.name for path in root.iterdir() if path.is_dir() and is_of_system(path.name))
        if system:
            self.notes.append(f"not used: {_some(map(shown, system))} in {shown(root)}, which a system made.")

    def _each_once(self, labels: Sequence[str]) -> dict[Split, Rows]:
        """Drop further names of a file: links before files, later names before earlier ones."""
        kept: dict[tuple[int, int], tuple[File, int]] = {}
        everything = [row for rows in self._files.values() for row in rows]
        for file, index in sorted(everything, key=lambda row: row[0].is_link):
            kept.setdefault(file.identity, (file, index))
        dropped = [row for row in everything if kept[row[0].identity][0] is not row[0]]
        for (file, index), (first, other) in ((row, kept[row[0].identity]) for row in dropped[:_MOST_NAMED]):
            also = f", and its label is {labels[other]!r}, not {labels[index]!r}" if index != other else ""
            self.notes.append(f"warning: {shown(file.path)} is the same file as {shown(first.path)}{also}.")
        self._same = [(file.path, index, kept[file.identity][0].path) for file, index in dropped]
        if len(dropped) > _MOST_NAMED:
            self.notes.append(f"warning: {len(dropped)} names lead to a file that has another; each counts once.")
        return {
            split: [(file.path, index) for file, index in rows if kept[file.identity][0] is file]
            for split, rows in self._files.items()
        }


def _without_classes(folder: Path, root: Path) -> str:
    loose = scan(root, deep=False).images
    also = f" {len(loose)} picture{'s lie' if len(loose) > 1 else ' lies'} in no class folder." if loose else ""
    what = "holds no class folders with pictures and no IDX files; expected LABEL/*.jpg or the like."
    if root != folder and loose:
        also += f" If {root.name!r} is a class, give it another name: this one stands for a part of the data."
    return f"{shown(root)} {what}{also}"


def _some(words: Iterable[str]) -> str:
    listed = list(words)
    more = len(listed) - _MOST_NAMED
    return ", ".join(listed[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
