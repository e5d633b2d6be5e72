import gzip
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.data import dataset, idx
from model.data.dataset import Dataset, ImageSet, PreprocessConfig, read_pixels
from model.data.layout import read_labels
from model.data.loading import load, load_for
from model.data.scan import scan
from model.errors import DataError
from model.spec import Fit
from tests.model.toys import idx_bytes, random_pixels, write_class, write_idx, write_image

GREY = PreprocessConfig(image_size=8, channels=1)
COLOR = PreprocessConfig(image_size=8, channels=3)


def _levels(images: ImageSet) -> list[int]:
    """Plain pictures are known by their grey level."""
    return sorted(images.pixels[:, 0, 0, 0].tolist())


def _two_classes(folder: Path, count: int = 5) -> Path:
    write_class(folder / "cat", count, 10)
    write_class(folder / "dog", count, 100)
    return folder


# --- class folders ---


def test_class_folders_alone_are_split_into_train_and_val(tmp_path: Path) -> None:
    dataset = load(_two_classes(tmp_path), GREY, val_fraction=0.4)
    assert dataset.labels == ("cat", "dog")
    assert (len(dataset.train), len(dataset.val), dataset.test) == (6, 4, None)
    assert dataset.skipped == ()
    assert (dataset.train.pixels.dtype, dataset.train.labels.dtype) == (np.uint8, np.int64)
    assert dataset.train.pixels.shape == (6, 8, 8, 1)


def test_a_train_folder_alone_is_split_too(tmp_path: Path) -> None:
    _two_classes(tmp_path / "train")
    dataset = load(tmp_path, GREY, val_fraction=0.4)
    assert (len(dataset.train), len(dataset.val), dataset.test) == (6, 4, None)


def test_train_val_and_test_folders_are_taken_as_they_are(tmp_path: Path) -> None:
    _two_classes(tmp_path / "train", 3)
    write_class(tmp_path / "val" / "dog", 2, 200)
    write_class(tmp_path / "test" / "cat", 1, 50)
    dataset = load(tmp_path, GREY)
    assert dataset.test is not None
    assert [_levels(part) for part in (dataset.train, dataset.val, dataset.test)] == [
        [10, 11, 12, 100, 101, 102],
        [200, 201],
        [50],
    ]
    assert dataset.val.labels.tolist() == [1, 1]
    assert dataset.test.labels.tolist() == [0]


def test_a_label_belongs_to_its_picture(tmp_path: Path) -> None:
    dataset = load(_two_classes(tmp_path), GREY)
    for part in (dataset.train, dataset.val):
        np.testing.assert_array_equal(part.labels, part.pixels[:, 0, 0, 0] >= 100)


def test_pictures_in_folders_within_a_class_count(tmp_path: Path) -> None:
    _two_classes(tmp_path)
    write_class(tmp_path / "cat" / "indoors" / "sleeping", 3, 50)
    dataset = load(tmp_path, GREY)
    assert len(dataset.train) + len(dataset.val) == 13


def test_a_broken_picture_is_left_out_and_named_with_the_reason(tmp_path: Path) -> None:
    _two_classes(tmp_path)
    broken, cut = tmp_path / "cat" / "broken.jpg", tmp_path / "dog" / "cut.png"
    broken.write_bytes(b"not a picture")
    whole = write_image(cut, random_pixels(64, 64, 3)).read_bytes()
    cut.write_bytes(whole[: len(whole) // 2])
    dataset = load(tmp_path, GREY)
    assert len(dataset.train) + len(dataset.val) == 10
    assert [path for path, _ in dataset.skipped] == [broken, cut]
    assert dataset.skipped[0][1].startswith(f"{broken} is not a readable picture: cannot identify image file")
    assert "truncated" in dataset.skipped[1][1]


def test_hidden_files_hidden_folders_and_other_files_are_ignored(tmp_path: Path) -> None:
    _two_classes(tmp_path)
    (tmp_path / "cat" / "._0.png").write_bytes(b"left by another system")
    (tmp_path / "cat" / "notes.txt").write_text("not a picture", encoding="utf-8")
    (tmp_path / "README.md").write_text("about", encoding="utf-8")
    write_class(tmp_path / ".cache", 2, 1)
    write_class(tmp_path / "cat" / ".thumbnails", 2, 1)
    dataset = load(tmp_path, GREY)
    assert dataset.labels == ("cat", "dog")
    assert dataset.skipped == ()
    assert sorted(_levels(dataset.train) + _levels(dataset.val)) == [*range(10, 15), *range(100, 105)]


def test_progress_tells_every_picture(tmp_path: Path) -> None:
    told = []
    load(_two_classes(tmp_path), GREY, progress=lambda done, total: told.append((done, total)))
    assert told == [(done, 10) for done in range(1, 11)]


def test_pictures_go_through_the_fit_of_the_service(tmp_path: Path) -> None:
    write_image(tmp_path / "a" / "0.png", random_pixels(8, 20, 3))
    write_image(tmp_path / "a" / "1.png", random_pixels(8, 20, 3))
    write_image(tmp_path / "b" / "0.png", random_pixels(8, 20, 3))
    preprocess_config = PreprocessConfig(8, 3, Fit(mode="stretch"), "box")
    dataset = load(tmp_path, preprocess_config)
    np.testing.assert_array_equal(dataset.train.pixels[0], read_pixels(tmp_path / "a" / "0.png", preprocess_config))


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({}, "holds no class folders with pictures and no IDX files; expected LABEL/*.jpg or the like."),
        ({"cat": 3}, "has 1 class; expected at least 2."),
        ({"cat": 1, "dog": 1}, "has no readable validation picture."),
    ],
)
def test_too_few_classes_or_pictures_are_named(tmp_path: Path, classes: dict[str, int], message: str) -> None:
    for label, count in classes.items():
        write_class(tmp_path / label, count, 10)
    with pytest.raises(DataError) as caught:
        load(tmp_path, GREY)
    assert str(caught.value) == f"{tmp_path} {message}"


def test_a_class_whose_pictures_are_all_broken_is_named(tmp_path: Path) -> None:
    _two_classes(tmp_path)
    (tmp_path / "emu").mkdir()
    (tmp_path / "emu" / "0.png").write_bytes(b"broken")
    with pytest.raises(DataError, match="has no readable training picture of 'emu'"):
        load(tmp_path, GREY)


def test_a_class_that_only_validation_has_is_named(tmp_path: Path) -> None:
    _two_classes(tmp_path / "train")
    write_class(tmp_path / "val" / "emu", 1, 10)
    with pytest.raises(DataError, match="val/emu is a class that the training pictures do not have"):
        load(tmp_path, GREY)


@pytest.mark.parametrize("is_file", [True, False])
def test_a_folder_that_is_none_is_named(tmp_path: Path, is_file: bool) -> None:
    path = tmp_path / "somewhere"
    if is_file:
        path.write_text("", encoding="utf-8")
    with pytest.raises(DataError, match="somewhere is not a folder; expected class folders or IDX files"):
        load(path, GREY)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1])
def test_val_fraction_leaves_something_on_both_sides(tmp_path: Path, fraction: float) -> None:
    with pytest.raises(DataError, match=f"val_fraction is {fraction}; expected more than 0 and less than 1"):
        load(tmp_path, GREY, val_fraction=fraction)


# --- the split ---


def _uneven(folder: Path) -> Path:
    write_class(folder / "cat", 20, 0)
    write_class(folder / "dog", 10, 100)
    write_class(folder / "emu", 2, 200)
    write_class(folder / "owl", 1, 250)
    return folder


def test_the_split_takes_its_share_of_every_class_and_leaves_one(tmp_path: Path) -> None:
    dataset = load(_uneven(tmp_path), GREY, val_fraction=0.2)
    assert np.bincount(dataset.val.labels, minlength=4).tolist() == [4, 2, 1, 0]
    assert np.bincount(dataset.train.labels, minlength=4).tolist() == [16, 8, 1, 1]


def test_the_split_is_disjoint_and_complete(tmp_path: Path) -> None:
    dataset = load(_uneven(tmp_path), GREY, val_fraction=0.2)
    expected = [*range(20), *range(100, 110), 200, 201, 250]
    assert sorted(_levels(dataset.train) + _levels(dataset.val)) == expected


def test_the_split_is_a_function_of_the_seed(tmp_path: Path) -> None:
    def held_out(seed: int) -> list[int]:
        return _levels(load(tmp_path, GREY, val_fraction=0.2, seed=seed).val)

    _uneven(tmp_path)
    assert held_out(0) == held_out(0)
    assert held_out(0) != held_out(1)


# --- the fingerprint ---


def test_the_fingerprint_is_of_the_pictures_and_not_of_where_they_lie(tmp_path: Path) -> None:
    here, there = (load(_two_classes(tmp_path / name), GREY).fingerprint for name in ("here", "there"))
    assert here == there
    write_image(tmp_path / "there" / "cat" / "new.png", random_pixels(8, 8))
    assert load(tmp_path / "there", GREY).fingerprint != here


def test_the_fingerprint_tells_how_pictures_became_pixels(tmp_path: Path) -> None:
    for index, label in enumerate("aabb"):
        write_image(tmp_path / label / f"{index}.png", random_pixels(8, 20, seed=index))
    fits = (Fit(), Fit(mode="pad"), Fit(mode="stretch"))
    assert len({load(tmp_path, PreprocessConfig(8, 1, fit)).fingerprint for fit in fits}) == 3


# --- big data sets ---


@pytest.mark.parametrize("kind", ["folders", "idx"])
def test_pixels_that_do_not_fit_in_memory_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    if kind == "folders":
        _two_classes(tmp_path)
    else:
        write_idx(tmp_path, "train", random_pixels(8, 8, 8), [0, 1] * 4)
    in_memory = load(tmp_path, GREY)
    monkeypatch.setattr(dataset, "_IN_MEMORY_BYTES", 0)
    paged = load(tmp_path, GREY)
    np.testing.assert_array_equal(paged.train.pixels, in_memory.train.pixels)
    np.testing.assert_array_equal(paged.val.pixels, in_memory.val.pixels)


# --- single pictures ---


def test_read_pixels_gives_the_square(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.png", random_pixels(8, 8, 3))
    np.testing.assert_array_equal(read_pixels(path, COLOR), random_pixels(8, 8, 3))
    assert read_pixels(path, GREY).shape == (8, 8, 1)


def test_a_missing_picture_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none.png is not a readable picture"):
        read_pixels(tmp_path / "none.png", GREY)


def test_a_picture_that_claims_four_billion_pixels_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bomb.gif"
    path.write_bytes(b"GIF89a\xff\xff\xff\xff\x00\x00\x00,\x00\x00\x00\x00\xff\xff\xff\xff\x00\x08\x00;")
    with pytest.raises(DataError, match=r"bomb.gif is not a readable picture: .*decompression bomb"):
        read_pixels(path, GREY)


def test_picture_files_are_found_by_suffix_in_order(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpeg", "c.txt", "deep/d.webp", ".hidden.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [file.path for file in scan(tmp_path).images] == [
        tmp_path / name for name in ("a.jpeg", "b.PNG", "deep/d.webp")
    ]


# --- IDX files ---


def _idx_folder(folder: Path, *, gz: bool = False, test: bool = True) -> Dataset:
    write_idx(folder, "train", random_pixels(20, 8, 8, seed=1), np.arange(20) % 4, gz=gz)
    if test:
        write_idx(folder, "t10k", random_pixels(6, 8, 8, seed=2), np.arange(6) % 4, gz=gz)
    return load(folder, GREY)


@pytest.mark.parametrize("gz", [False, True])
def test_idx_files_are_read_plain_or_gzipped(tmp_path: Path, gz: bool) -> None:
    dataset = _idx_folder(tmp_path, gz=gz)
    assert dataset.labels == ("0", "1", "2", "3")
    assert (len(dataset.train), len(dataset.val)) == (16, 4)
    assert dataset.test is not None
    np.testing.assert_array_equal(dataset.test.pixels[..., 0], random_pixels(6, 8, 8, seed=2))
    assert dataset.test.labels.tolist() == [0, 1, 2, 3, 0, 1]


def test_idx_files_need_no_test_split(tmp_path: Path) -> None:
    assert _idx_folder(tmp_path, test=False).test is None


def test_idx_pictures_are_repeated_over_the_channels_of_a_colour_network(tmp_path: Path) -> None:
    _idx_folder(tmp_path)
    dataset = load(tmp_path, COLOR)
    assert dataset.train.pixels.shape == (16, 8, 8, 3)
    assert (dataset.train.pixels == dataset.train.pixels[..., :1]).all()


def test_labels_name_the_classes_of_idx_files(tmp_path: Path) -> None:
    _idx_folder(tmp_path)
    assert load(tmp_path, GREY, labels=list("abcd")).labels == ("a", "b", "c", "d")


def test_a_number_of_labels_other_than_of_classes_is_named(tmp_path: Path) -> None:
    _idx_folder(tmp_path)
    with pytest.raises(DataError, match="has 4 classes; expected as many labels, not 3"):
        load(tmp_path, GREY, labels=list("abc"))


def test_a_class_that_only_the_idx_test_split_has_is_an_error(tmp_path: Path) -> None:
    _idx_folder(tmp_path)
    write_idx(tmp_path, "t10k", random_pixels(1, 8, 8), [9])
    with pytest.raises(DataError, match="9"):
        load(tmp_path, GREY)


def test_idx_images_without_labels_are_named(tmp_path: Path) -> None:
    _idx_folder(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="has no train-labels IDX file"):
        load(tmp_path, GREY)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (random_pixels(4, 8, 8), [0, 1, 0], r"train images are \(4, 8, 8\), labels \(3,\); expected \[N, H, W\]"),
        (random_pixels(4, 8), [0, 1, 0, 1], r"train images are \(4, 8\), labels \(4,\)"),
    ],
)
def test_idx_images_and_labels_that_do_not_fit_are_named(
    tmp_path: Path, images: np.ndarray, labels: list[int], message: str
) -> None:
    write_idx(tmp_path, "train", images, labels)
    with pytest.raises(DataError, match=message):
        load(tmp_path, GREY)


@pytest.mark.parametrize("shape", [(0, 8, 8), (20, 0, 0)])
def test_idx_files_without_pictures_or_pixels_are_named(tmp_path: Path, shape: tuple[int, ...]) -> None:
    write_idx(tmp_path, "train", random_pixels(*shape), np.arange(shape[0]) % 2)
    with pytest.raises(DataError, match=str(tmp_path)):
        load(tmp_path, GREY)


WHOLE = idx_bytes(random_pixels(4, 8, 8))
ZIPPED = gzip.compress(idx_bytes(np.zeros((4, 8, 8), np.uint8)), mtime=0)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty", b"", "starts with nothing; expected an IDX file of unsigned bytes"),
        ("garbage", b"GIF89a", "starts with 47494638; expected an IDX file of unsigned bytes"),
        ("floats", b"\0\0\x0d\x01\0\0\0\0", "starts with 00000d01"),
        ("short", WHOLE[:-1], r"holds 255 values; its header says \(4, 8, 8\)"),
        ("long", WHOLE + b"\0", "holds 257 values"),
        ("half_a_header", WHOLE[:8], "header"),
        ("half_a_number", WHOLE[:6], "header"),
        ("wrapped", b"\0\0\x08\x04" + b"\0\1\0\0" * 4, "header"),
        ("garbage.gz", b"GIF89a", "cannot be read: Not a gzipped file"),
        ("short.gz", ZIPPED[:-9], "cannot be read: Compressed file ended"),
        ("damaged.gz", ZIPPED[:10] + b"\xff\xff" + ZIPPED[12:], "cannot be read"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_broken_idx_file_is_named_with_the_reason(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name} .*{message}"):
        idx.read(tmp_path / name)


def test_a_missing_idx_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none cannot be read"):
        idx.read(tmp_path / "none")


# --- labels ---


@pytest.mark.parametrize("text", ["T-shirt\nAnkle boot\n", "T-shirt\nAnkle boot", " T-shirt \r\nAnkle boot\r\n"])
def test_labels_are_one_a_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "labels.txt").write_bytes(text.encode())
    assert read_labels(tmp_path / "labels.txt") == ("T-shirt", "Ankle boot")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\n\nb\n", "has an empty line at 2; expected a label on each"),
        (b"", "has an empty line at 1"),
        (b"\xff\xfe\x00", "cannot be read as labels, one a line"),
        (b"a\nb\na\n", "'a'"),
    ],
)
def test_unusable_labels_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "labels.txt").write_bytes(content)
    with pytest.raises(DataError, match=f"labels.txt .*{message}"):
        read_labels(tmp_path / "labels.txt")


def test_a_missing_label_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none.txt cannot be read as labels"):
        read_labels(tmp_path / "none.txt")


def test_a_palette_picture_from_a_folder_is_decoded_as_it_is_meant(tmp_path: Path) -> None:
    image = Image.new("P", (8, 8))
    image.putpalette([200, 100, 50])
    image.save(tmp_path / "a.gif")
    assert read_pixels(tmp_path / "a.gif", COLOR)[0, 0].tolist() == [200, 100, 50]


def test_whatever_a_decoder_raises_the_picture_is_skipped_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise EOFError

    monkeypatch.setattr("model.data.dataset.Image.open", broken)
    with pytest.raises(DataError, match=r"odd.gif is not a readable picture: EOFError"):
        read_pixels(tmp_path / "odd.gif", PreprocessConfig(8))


# --- layouts ---


@pytest.mark.parametrize(
    ("train", "val"),
    [("Train", "Valid"), ("TRAIN", "Validation"), ("training", "valid"), ("train", "dev"), ("training_set", "val_set")],
)
def test_splits_are_known_by_their_usual_names_in_any_case(tmp_path: Path, train: str, val: str) -> None:
    _two_classes(tmp_path / train, 3)
    write_class(tmp_path / val / "dog", 2, 200)
    dataset = load(tmp_path, GREY)
    assert dataset.labels == ("cat", "dog")
    assert (_levels(dataset.train), _levels(dataset.val)) == ([10, 11, 12, 100, 101, 102], [200, 201])


def test_two_folders_for_one_split_are_refused(tmp_path: Path) -> None:
    for name in ("train", "val", "valid"):
        _two_classes(tmp_path / name)
    with pytest.raises(DataError, match=r"has val and valid; expected one of the two\.$"):
        load(tmp_path, GREY)


@pytest.mark.parametrize("others", [("val",), ("Valid", "Test"), ("test",)])
def test_a_validation_or_test_set_without_a_training_set_is_refused(tmp_path: Path, others: tuple[str, ...]) -> None:
    _two_classes(tmp_path)
    for name in others:
        _two_classes(tmp_path / name)
    with pytest.raises(DataError, match=r"and no train/; expected both, or class folders alone\.$"):
        load(tmp_path, GREY)


@pytest.mark.parametrize("name", ["train", "Test", "validation"])
def test_a_class_that_is_named_like_a_split_is_refused(tmp_path: Path, name: str) -> None:
    _two_classes(tmp_path / "train")
    write_class(tmp_path / "train" / name, 3, 50)
    with pytest.raises(DataError, match=f"train/{name} is named like a split"):
        load(tmp_path, GREY)


def test_splits_below_the_classes_are_refused(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        _two_classes(tmp_path / label / "train")
        _two_classes(tmp_path / label / "val")
    with pytest.raises(DataError, match=r"cat holds train and val; expected splits above the classes, as in train/L"):
        load(tmp_path, GREY)


def test_class_folders_beside_the_splits_are_not_used_and_named(tmp_path: Path) -> None:
    _two_classes(tmp_path / "train")
    write_class(tmp_path / "emu", 3, 200)
    dataset = load(tmp_path, GREY)
    assert dataset.labels == ("cat", "dog")
    assert any("not used, because of train beside" in note and "emu" in note for note in dataset.notes)


# --- files of every kind ---


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".JPG_large", ".txt", ""])
def test_pictures_are_known_by_their_bytes_whatever_their_suffix(tmp_path: Path, suffix: str) -> None:
    _two_classes(tmp_path)
    for index in range(4):
        path = write_image(tmp_path / "emu" / f"{index}.png", np.full((8, 8), 200 + index, dtype=np.uint8))
        path.rename(path.with_suffix(suffix))
    assert load(tmp_path, GREY).labels == ("cat", "dog", "emu")


def test_a_class_whose_pictures_cannot_be_read_stops_the_run_and_says_why(tmp_path: Path) -> None:
    _two_classes(tmp_path)
    (tmp_path / "emu").mkdir()
    (tmp_path / "emu" / "0.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0")
    with pytest.raises(DataError, match=r"emu is a class without a picture.*emu/0.HEIC is a HEIC picture; expected JP"):
        load(tmp_path, GREY)


def test_a_class_folder_without_a_file_stops_the_run(tmp_path: Path) -> None:
    _two_classes(tmp_path)
    (tmp_path / "emu").mkdir()
    with pytest.raises(DataError, match=r"emu is a class without a picture; expected some, or no folder\.$"):
        load(tmp_path, GREY)


@pytest.mark.parametrize(
    "name", ["@eaDir", "__MACOSX", "lost+found", "$RECYCLE.BIN", ".Trash-1000", ".thumbnails", "@__thumb", "RECYCLED"]
)
def test_folders_that_systems_make_are_no_classes_and_hold_no_pictures(tmp_path: Path, name: str) -> None:
    _two_classes(tmp_path)
    write_class(tmp_path / name, 2, 1)
    write_class(tmp_path / "cat" / name, 2, 1)
    dataset = load(tmp_path, GREY)
    assert dataset.labels == ("cat", "dog")
    assert len(dataset.train) + len(dataset.val) == 10
    assert any(note.startswith(f"not used: {name} in ") for note in dataset.notes)


@pytest.mark.parametrize("name", [b"caf\xe9", b"a\nb", b"a\x1b[31m"])
def test_a_class_name_that_is_no_line_of_text_is_refused_at_the_start(tmp_path: Path, name: bytes) -> None:
    _two_classes(tmp_path)
    write_class(Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)), 2, 1)
    with pytest.raises(DataError, match=r"is not UTF-8|has a control character") as caught:
        load(tmp_path, GREY)
    assert str(caught.value).isprintable()


def test_a_class_name_in_two_ways_of_writing_it_is_refused(tmp_path: Path) -> None:
    write_class(tmp_path / "caf\u00e9", 3, 1)
    write_class(tmp_path / "cafe\u0301", 3, 100)
    with pytest.raises(DataError, match="has two class folders named"):
        load(tmp_path, GREY)


def test_a_link_to_a_picture_counts_once_and_never_on_both_sides(tmp_path: Path) -> None:
    _two_classes(tmp_path / "train")
    write_class(tmp_path / "val" / "cat", 2, 200)
    (tmp_path / "train" / "cat" / "a.png").symlink_to(tmp_path / "val" / "cat" / "0.png")
    (tmp_path / "val" / "cat" / "b.png").hardlink_to(tmp_path / "val" / "cat" / "1.png")
    dataset = load(tmp_path, GREY)
    assert _levels(dataset.train) == [*range(10, 15), *range(100, 105)]
    assert _levels(dataset.val) == [200, 201]
    assert sum("is the same file as" in note for note in dataset.notes) == 2


def test_a_link_under_another_label_is_named_with_both(tmp_path: Path) -> None:
    _two_classes(tmp_path)
    (tmp_path / "cat" / "a.png").symlink_to(tmp_path / "dog" / "0.png")
    (note,) = load(tmp_path, GREY).notes
    own = tmp_path / "dog" / "0.png"
    assert note == f"warning: {tmp_path}/cat/a.png is the same file as {own}, and its label is 'dog', not 'cat'."


def test_what_leads_nowhere_or_is_no_file_is_listed_and_never_opened(tmp_path: Path) -> None:
    _two_classes(tmp_path)
    (tmp_path / "cat" / "gone.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "cat" / "itself.png").symlink_to("itself.png")
    (tmp_path / "cat" / "up").symlink_to("..")
    os.mkfifo(tmp_path / "dog" / "pipe.png")
    dataset = load(tmp_path, GREY)
    assert [(path.name, reason.removeprefix(f"{path} ")) for path, reason in dataset.skipped] == [
        ("gone.png", "is a link that leads to no file."),
        ("itself.png", "is a link that leads to no file."),
        ("up", "is a link to a folder; expected the folder itself."),
        ("pipe.png", "is a pipe, a socket or a device; expected a file."),
    ]
    assert len(dataset.train) + len(dataset.val) == 10


@pytest.fixture
def deep_folder(tmp_path: Path) -> Iterator[Path]:
    """The lowest of 1200 folders, in the class cat. Taken away from below: shutil.rmtree does not go so deep."""
    deepest = tmp_path / "cat" / "/".join("d" * 1200)
    folders = [deepest, *deepest.parents][:1200]
    for folder in reversed(folders):
        folder.mkdir(parents=True, exist_ok=True)
    yield deepest
    (deepest / "0.png").unlink(missing_ok=True)
    os.removedirs(deepest)


@pytest.mark.heavy
def test_pictures_below_a_thousand_folders_count(tmp_path: Path, deep_folder: Path) -> None:
    _two_classes(tmp_path)
    Image.new("L", (8, 8), 50).save(deep_folder / "0.png")
    assert len(load(tmp_path, GREY).train) == 9


def test_pictures_in_no_class_folder_are_named(tmp_path: Path) -> None:
    write_image(tmp_path / "loose.png", random_pixels(8, 8))
    with pytest.raises(DataError, match=r"expected LABEL/\*.jpg or the like. 1 picture lies in no class folder\.$"):
        load(tmp_path, GREY)
    _two_classes(tmp_path)
    (note,) = load(tmp_path, GREY).notes
    assert note == f"warning: not used, because they lie in no class folder: {tmp_path / 'loose.png'}."


def test_what_pillow_warns_of_is_said_with_the_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    _two_classes(tmp_path)
    path = write_image(tmp_path / "cat" / "odd.png", random_pixels(8, 8))
    no_frames = b"acTL" + bytes(8)
    chunk = len(no_frames[4:]).to_bytes(4, "big") + no_frames + zlib.crc32(no_frames).to_bytes(4, "big")
    content = path.read_bytes()
    path.write_bytes(content[:33] + chunk + content[33:])
    dataset = load(tmp_path, COLOR)
    assert dataset.notes == (f"warning: {path}: Invalid APNG, will use default PNG image if possible",)
    assert capfd.readouterr().err == ""


# --- known labels ---


def test_folders_are_matched_to_known_labels_by_name_in_the_labels_order(tmp_path: Path) -> None:
    _two_classes(tmp_path / "val")
    dataset = load_for(tmp_path, GREY, ("emu", "dog", "cat"))
    assert dataset.labels == ("emu", "dog", "cat")
    assert (len(dataset.train), dataset.test) == (0, None)
    np.testing.assert_array_equal(dataset.val.labels, np.where(dataset.val.pixels[:, 0, 0, 0] >= 100, 1, 2))
    assert f"{tmp_path} has 2 of the model's 3 classes." in dataset.notes


def test_a_test_set_alone_is_judged_as_such(tmp_path: Path) -> None:
    _two_classes(tmp_path / "Test", 2)
    dataset = load_for(tmp_path, GREY, ("cat", "dog"))
    assert dataset.test is not None
    assert (len(dataset.train), len(dataset.val), len(dataset.test)) == (0, 0, 4)


def test_what_is_not_judged_is_read_only_where_it_is_asked_for(tmp_path: Path) -> None:
    for name in ("train", "val", "test"):
        _two_classes(tmp_path / name)
    dataset = load_for(tmp_path, GREY, ("cat", "dog"), with_training=True)
    assert dataset.test is not None
    assert (len(dataset.train), len(dataset.val), len(dataset.test)) == (10, 0, 10)
    assert len(load_for(tmp_path, GREY, ("cat", "dog")).train) == 0


def test_to_calibrate_the_validation_pictures_are_read_in_place_of_the_test_pictures(tmp_path: Path) -> None:
    for name in ("train", "test"):
        _two_classes(tmp_path / name)
    held_out = load_for(tmp_path, GREY, ("cat", "dog"), to_calibrate=True, seed=3)
    assert _levels(held_out.val) == _levels(load(tmp_path, GREY, seed=3).val)
    assert (held_out.judged[0], held_out.is_held_out, len(held_out.train)) == ("validation", True, 0)
    _two_classes(tmp_path / "val", 2)
    assert len(load_for(tmp_path, GREY, ("cat", "dog"), to_calibrate=True).val) == 4


def test_to_calibrate_a_test_set_alone_will_not_do(tmp_path: Path) -> None:
    _two_classes(tmp_path / "test", 2)
    with pytest.raises(DataError, match=r"has test alone; expected val or train, or class folders\.$"):
        load_for(tmp_path, GREY, ("cat", "dog"), to_calibrate=True)


def test_to_calibrate_by_idx_files_takes_a_share_of_the_training_split(tmp_path: Path) -> None:
    write_idx(tmp_path, "t10k", random_pixels(6, 8, 8), np.arange(6) % 2)
    with pytest.raises(DataError, match="has no readable picture to judge by"):
        load_for(tmp_path, GREY, ("a", "b"), to_calibrate=True)
    write_idx(tmp_path, "train", random_pixels(20, 8, 8), np.arange(20) % 2)
    found = load_for(tmp_path, GREY, ("a", "b"), to_calibrate=True)
    assert (found.test, len(found.val)) == (None, 2)


def test_plain_class_folders_are_split_for_a_known_classifier_as_they_are_for_training(tmp_path: Path) -> None:
    trained, judged = load(_two_classes(tmp_path), GREY, seed=3), load_for(tmp_path, GREY, ("cat", "dog"), seed=3)
    assert _levels(judged.val) == _levels(trained.val)


def test_all_training_pictures_are_judged_where_that_is_asked_for(tmp_path: Path) -> None:
    judged = load_for(_two_classes(tmp_path), GREY, ("cat", "dog"), judge_all=True)
    assert (len(judged.train), len(judged.val), judged.is_held_out) == (0, 10, False)
    assert judged.notes == (f"{tmp_path} has no val/ and no test/: all its pictures are judged.",)


def test_some_of_the_classes_alone_are_judged_as_a_whole_with_a_warning(tmp_path: Path) -> None:
    judged = load_for(_two_classes(tmp_path), GREY, ("cat", "dog", "emu"))
    assert (len(judged.train), len(judged.val), judged.is_held_out) == (0, 10, False)
    assert judged.notes[-1].startswith(f"warning: {tmp_path} has no val/ and no test/: all its pictures are judged; th")


@pytest.mark.parametrize("asked", [{"with_training": True}, {"to_calibrate": True}])
def test_some_of_the_classes_are_split_where_they_calibrate(tmp_path: Path, asked: dict[str, bool]) -> None:
    dataset = load_for(_two_classes(tmp_path), GREY, ("cat", "dog", "emu"), val_fraction=0.4, **asked)
    assert (len(dataset.val), dataset.is_held_out) == (4, True)


def test_a_set_of_its_own_is_judged_whatever_is_asked_for(tmp_path: Path) -> None:
    _two_classes(tmp_path / "train")
    _two_classes(tmp_path / "val", 2)
    assert len(load_for(tmp_path, GREY, ("cat", "dog"), judge_all=True).val) == 4


def test_a_folder_that_is_no_label_is_refused_before_a_picture_is_read(tmp_path: Path) -> None:
    _two_classes(tmp_path)
    with pytest.raises(DataError, match=r"has 1 class folder that is no label of this model: 'dog'"):
        load_for(tmp_path, GREY, ("cat", "hound"), progress=lambda *_: pytest.fail("a picture was read"))


def test_an_idx_test_split_alone_or_with_some_of_the_classes_is_judged(tmp_path: Path) -> None:
    write_idx(tmp_path, "t10k", random_pixels(6, 8, 8), np.arange(6) % 2)
    dataset = load_for(tmp_path, GREY, ("a", "b", "c"))
    assert dataset.test is not None
    assert (dataset.labels, len(dataset.test), len(dataset.val)) == (("a", "b", "c"), 6, 0)
    write_idx(tmp_path, "train", random_pixels(6, 8, 8), np.arange(6) % 2)
    assert load_for(tmp_path, GREY, ("a", "b", "c")).labels == ("a", "b", "c")


def test_labels_give_class_folders_their_order_in_training(tmp_path: Path) -> None:
    dataset = load(_two_classes(tmp_path), GREY, labels=("dog", "cat"))
    np.testing.assert_array_equal(dataset.train.labels, dataset.train.pixels[:, 0, 0, 0] < 100)
    with pytest.raises(DataError, match=r"has no class folder for 'emu'; expected one each\.$"):
        load(tmp_path, GREY, labels=("dog", "cat", "emu"))


def test_the_split_of_a_seed_stays_what_it_was(tmp_path: Path) -> None:
    dataset = load(_uneven(tmp_path), GREY, val_fraction=0.2, seed=3)
    assert _levels(dataset.val) == [2, 6, 8, 16, 105, 107, 200]
