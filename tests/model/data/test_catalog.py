"""Folders that are laid out otherwise than they were meant: what is said of them, and what becomes of the pictures."""

from pathlib import Path

import pytest

from model.data.catalog import catalog, catalog_for
from model.errors import DataError
from tests.model.toys import write_class


def _two_classes(folder: Path, count: int = 3) -> Path:
    write_class(folder / "cat", count, 10)
    write_class(folder / "dog", count, 100)
    return folder


def _refusal(folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        catalog(folder)
    return str(caught.value).replace(str(folder), "DATA")


# --- splits under other names ---


def test_classes_that_look_like_splits_are_refused(tmp_path: Path) -> None:
    _two_classes(tmp_path / "pets-train")
    _two_classes(tmp_path / "pets-val")
    assert _refusal(tmp_path) == (
        "DATA has 'pets-train', 'pets-val', which look like splits, as each holds 'cat', 'dog'; expected folders named "
        "train, val and test."
    )


def test_classes_that_hold_the_same_folders_are_doubtful(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        write_class(tmp_path / label / "day", 2, 10)
        write_class(tmp_path / label / "night", 2, 100)
    write_class(tmp_path / "emu", 2, 200)
    (note,) = catalog(tmp_path).notes
    assert note.startswith("warning: the classes 'cat', 'dog' hold folders of the same names, 'day', 'night'. ")


def test_a_class_that_is_named_train_is_told_apart_from_training_pictures(tmp_path: Path) -> None:
    for label in ("bus", "car", "train"):
        write_class(tmp_path / label, 3, 10)
    assert "DATA/train holds no class folders" in _refusal(tmp_path)
    assert _refusal(tmp_path).endswith(
        "If 'train' is a class, give it another name: this one stands for a part of the data."
    )


def test_the_folder_above_data_is_refused_with_a_hint(tmp_path: Path) -> None:
    _two_classes(tmp_path / "photos")
    assert _refusal(tmp_path) == (
        "DATA has 1 class; expected at least 2. DATA/photos holds the folders 'cat', 'dog'; is it DATA itself?"
    )


@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.parametrize(
    ("loose", "what"), [(0, "no class folders"), (1, "1 picture in"), (3, "3 pictures in no class")]
)
def test_a_split_without_class_folders_is_not_used_and_named(tmp_path: Path, split: str, loose: int, what: str) -> None:
    _two_classes(tmp_path / "train")
    (tmp_path / split).mkdir()
    write_class(tmp_path / split, loose, 10)
    for found in (catalog(tmp_path), catalog_for(tmp_path, ["cat", "dog"])):
        assert list(found.rows) == ["train"]
        (note,) = found.notes
        assert note.startswith(f"warning: {tmp_path / split} is not used: it has {what}")


# --- classes of other splits ---


def test_a_validation_class_that_is_written_otherwise_is_named_with_both_ways(tmp_path: Path) -> None:
    _two_classes(tmp_path / "train")
    write_class(tmp_path / "val" / "Cat", 1, 50)
    assert _refusal(tmp_path) == (
        "DATA/val/Cat is a class that the training pictures do not have. 'Cat' is written 'cat' there."
    )


def test_all_validation_classes_that_training_has_not_are_named_at_once(tmp_path: Path) -> None:
    _two_classes(tmp_path / "train")
    for label in ("emu", "fox", "cat"):
        write_class(tmp_path / "val" / label, 1, 50)
    assert _refusal(tmp_path) == "DATA/val has 2 classes that the training pictures do not have: 'emu', 'fox'."


# --- links ---


def test_class_folders_that_are_links_are_used_and_not_called_skipped(tmp_path: Path) -> None:
    _two_classes(tmp_path / "elsewhere")
    (tmp_path / "data").mkdir()
    for label in ("cat", "dog"):
        (tmp_path / "data" / label).symlink_to(tmp_path / "elsewhere" / label)
    found = catalog(tmp_path / "data")
    assert len(found.rows["train"]) == 6
    assert found.skipped == []


@pytest.mark.parametrize("target", ["dog", "."])
def test_a_link_to_other_classes_is_no_class_of_its_own(tmp_path: Path, target: str) -> None:
    _two_classes(tmp_path)
    (tmp_path / "hound").symlink_to(target)
    assert _refusal(tmp_path).startswith("The class 'hound' has no picture of its own: DATA/hound/")
