"""Folders by their names."""

from pathlib import Path

import pytest

from model.data.layout import alike, split_named, subfolders


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"), ("Training", "train"), ("training_set", "train"), ("TRAIN-images", "train"),
        ("val", "val"), ("Valid", "val"), ("validation", "val"), ("dev", "val"), ("Validation Data", "val"),
        ("test", "test"), ("Testing", "test"), ("test_set", "test"),
        ("trainer", None), ("training shoes", None), ("valley", None), ("testament", None), ("set", None),
    ],
)  # fmt: skip
def test_a_split_is_known_by_its_usual_names(name: str, split: str | None) -> None:
    assert split_named(name) == split


def test_names_that_differ_in_case_blanks_or_punctuation_are_alike() -> None:
    assert alike(["cat", "Cat", "great white", "great_white", "dog", "-", "_"]) == [
        ("cat", "Cat"),
        ("great white", "great_white"),
    ]


def test_links_to_folders_are_folders_and_files_are_not(tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "cat").mkdir(parents=True)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "cat").symlink_to(tmp_path / "elsewhere" / "cat")
    (tmp_path / "data" / "dog").write_bytes(b"a file")
    (tmp_path / "data" / "gone").symlink_to("nowhere")
    assert subfolders(tmp_path / "data") == [tmp_path / "data" / "cat"]
