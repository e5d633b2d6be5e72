"""Folders by their names: splits, classes, and which class folder has which label."""

import unicodedata
from pathlib import Path

import pytest

from model.data.layout import alike, expect_outside, match, read_labels, split_named, subfolders
from model.errors import DataError


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"), ("Training", "train"), ("training_set", "train"), ("TRAIN-images", "train"),
        ("val", "val"), ("Valid", "val"), ("validation", "val"), ("dev", "val"), ("Validation Data", "val"),
        ("test", "test"), ("Testing", "test"), ("test_set", "test"), ("eval", "test"), ("Evaluation", "test"),
        ("train2017", "train"), ("val_2017", "val"), ("test1", None), ("2017", None),
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


@pytest.mark.parametrize("folder", ["photos", "photos/cat/new", "other/../photos/x"])
def test_nothing_is_written_among_the_pictures(tmp_path: Path, folder: str) -> None:
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    with pytest.raises(DataError, match=r"is within DATA, .*photos; expected a folder outside of the pictures\.$"):
        expect_outside(tmp_path / folder, tmp_path / "photos")


def test_a_folder_beside_the_pictures_is_written_to(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    expect_outside(tmp_path / "photos2", tmp_path / "photos")


# --- labels ---

FOLDER = Path("photos")
IMAGENET = read_labels(Path(__file__).parents[3] / "model" / "data" / "imagenet1k.txt")


def test_folders_have_the_label_of_the_same_name_in_whatever_order() -> None:
    assert match(["goldfish", "tench"], IMAGENET, FOLDER) == {"goldfish": 1, "tench": 0}
    assert match(["10", "9"], [str(index) for index in range(11)], FOLDER) == {"10": 10, "9": 9}


def test_the_same_letters_in_another_encoding_are_the_same_name() -> None:
    assert match([unicodedata.normalize("NFD", "caf\u00e9")], ["caf\u00e9"], FOLDER) == {"cafe\u0301": 0}


@pytest.mark.parametrize("name", ["Great_White_Shark", "great-white-shark", "GREAT WHITE SHARK"])
def test_a_name_that_is_written_almost_like_a_label_is_refused_with_a_hint(name: str) -> None:
    with pytest.raises(DataError) as caught:
        match([name, "tench"], IMAGENET, FOLDER)
    assert str(caught.value) == (
        f"photos has 1 class folder that is no label of this model: {name!r}; {name!r} would be the label "
        "'great white shark', written exactly so; expected some of 'tench', 'goldfish', 'great white shark', "
        "'tiger shark', 'hammerhead' and 995 more."
    )


def test_of_many_unknown_folders_some_are_named() -> None:
    with pytest.raises(DataError, match=r"has 900 class folders that are no labels .*'x4' and 895 more; ") as caught:
        match([f"x{index}" for index in range(900)], IMAGENET, FOLDER)
    assert len(str(caught.value)) < 400


def test_the_thousand_wordnet_ids_of_imagenet_are_its_labels_in_order() -> None:
    ids = [f"n{10 * index:08}" for index in range(1000)]
    assert match(ids, IMAGENET, FOLDER) == {name: index for index, name in enumerate(ids)}


@pytest.mark.parametrize(
    ("ids", "labels"), [(["n01440764"], IMAGENET), ([f"n{index:08}" for index in range(1000)], IMAGENET[::-1])]
)
def test_some_wordnet_ids_or_those_of_other_labels_are_refused_with_the_ways_out(
    ids: list[str], labels: tuple[str, ...]
) -> None:
    with pytest.raises(DataError, match=r"named by WordNet ids, such as n0.*all 1000 ids.*--labels FILE"):
        match(ids, labels, FOLDER)


def test_wordnet_ids_that_are_the_labels_themselves_match_by_name() -> None:
    assert match(["n01440764"], ["n01443537", "n01440764"], FOLDER) == {"n01440764": 1}
