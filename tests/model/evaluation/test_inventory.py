"""What a data set is said to hold, and which doubts are said."""

from pathlib import Path

import numpy as np

from model.data.dataset import PreprocessConfig
from model.data.loading import load, load_for
from model.evaluation.inventory import describe, describe_judged
from tests.model.toys import random_pixels, write_class, write_idx, write_image

GREY = PreprocessConfig(image_size=8, channels=1)


def _doubts(lines: list[str]) -> list[str]:
    return [line for line in lines if line.startswith("warning: ")]


def test_classes_counts_and_what_is_held_out_are_said(tmp_path: Path) -> None:
    write_class(tmp_path / "cat", 20, 10)
    write_class(tmp_path / "dog", 10, 100)
    assert describe(load(tmp_path, GREY))[:2] == [
        "2 classes: 27 training pictures, 3 validation pictures (held out of the training pictures)",
        "training + validation pictures: cat 18 + 2, dog 9 + 1",
    ]


def test_sets_of_their_own_are_not_held_out(tmp_path: Path) -> None:
    for split, count in (("train", 3), ("val", 2), ("test", 1)):
        write_class(tmp_path / split / "cat", count, 10 * count)
        write_class(tmp_path / split / "dog", count, 100 + 10 * count)
    first = describe(load(tmp_path, GREY))[0]
    assert first == "2 classes: 6 training pictures, 4 validation pictures, 2 test pictures"


def test_of_many_classes_the_extremes_are_said(tmp_path: Path) -> None:
    for index in range(25):
        write_class(tmp_path / f"class{index:02}", 2 + index % 5, 10 * index)
    assert describe(load(tmp_path, GREY))[1] == (
        "training pictures of a class: 1 (class00) to 5 (class04), in the middle 3"
    )


def test_a_class_of_one_picture_and_one_without_a_validation_picture_are_doubtful(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        write_class(tmp_path / "train" / label, 3, ord(label[0]))
    write_class(tmp_path / "train" / "emu", 1, 255)
    write_class(tmp_path / "val" / "cat", 140, 110)
    assert _doubts(describe(load(tmp_path, GREY))) == [
        "warning: a class has a single training picture: emu.",
        "warning: 2 classes have no validation picture: dog, emu.",
    ]


def test_few_validation_pictures_are_doubtful_and_the_interval_says_why(tmp_path: Path) -> None:
    write_class(tmp_path / "cat", 4, 10)
    write_class(tmp_path / "dog", 4, 100)
    assert _doubts(describe(load(tmp_path, GREY))) == [
        "warning: 2 validation pictures are few to judge by: where 1 are right, the accuracy lies between 9% and 91% "
        "(95 % interval)."
    ]


def test_a_picture_on_both_sides_is_named_with_both_paths(tmp_path: Path) -> None:
    for index, label in enumerate(("cat", "dog")):
        write_class(tmp_path / "train" / label, 2, 10 + 100 * index)
        write_class(tmp_path / "val" / label, 75, 20 + 100 * index)
    copy = tmp_path / "val" / "dog" / "x.png"
    copy.write_bytes((tmp_path / "train" / "cat" / "1.png").read_bytes())
    assert _doubts(describe(load(tmp_path, GREY))) == [
        "warning: 1 of 151 validation pictures are training pictures, too, so that the accuracy looks better than it "
        f"is: {copy} = {tmp_path / 'train' / 'cat' / '1.png'}."
    ]


def test_pictures_of_idx_files_are_named_by_their_number(tmp_path: Path) -> None:
    images = random_pixels(400, 8, 8)
    write_idx(tmp_path, "train", images, np.arange(400) % 2)
    write_idx(tmp_path, "t10k", random_pixels(20, 8, 8, seed=1), np.arange(20) % 2)
    dataset = load(tmp_path, GREY, val_fraction=0.3)
    assert _doubts(describe(dataset)) == []
    write_idx(tmp_path, "t10k", dataset.train.pixels[7:8, :, :, 0], [0])
    (doubt,) = _doubts(describe(load(tmp_path, GREY, val_fraction=0.3)))
    assert "1 of 1 test pictures" in doubt
    assert doubt.endswith("number 0 = number 7.")


def test_what_was_skipped_is_listed_up_to_a_bound(tmp_path: Path) -> None:
    write_class(tmp_path / "cat", 5, 10)
    write_class(tmp_path / "dog", 5, 100)
    for index in range(105):
        (tmp_path / "dog" / f"{index:03}.heic").write_bytes(b"\0\0\0\x18ftypheic")
    skipped = [line for line in describe(load(tmp_path, GREY)) if line.startswith("skipped: ")]
    assert len(skipped) == 101
    assert skipped[-1] == "skipped: 5 more like these."


def test_what_a_classifier_is_judged_on_is_said(tmp_path: Path) -> None:
    write_class(tmp_path / "train" / "cat", 3, 10)
    write_image(tmp_path / "test" / "cat" / "0.png", np.full((8, 8), 11, dtype=np.uint8))
    with_training = load_for(tmp_path, GREY, ("cat", "dog"), with_training=True)
    assert describe_judged(with_training) == [
        "1 test pictures of 1 class; 3 training pictures",
        f"{tmp_path} has 1 of the model's 2 classes.",
        "warning: 1 of 1 test pictures are training pictures, too, so that the accuracy looks better than it is: "
        f"{tmp_path}/test/cat/0.png = {tmp_path}/train/cat/1.png.",
    ]
    assert describe_judged(load_for(tmp_path, GREY, ("cat", "dog")))[0] == "1 test pictures of 1 class"
