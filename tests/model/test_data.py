import gzip
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from toys import idx_bytes, random_pixels, write_class, write_idx, write_picture

from model import data, idx
from model.data import Dataset, PictureSet, Picturing, load, picture_files, read_labels, read_pixels
from model.errors import DataError
from model.spec import Fit

GREY = Picturing(image_size=8, channels=1)
COLOUR = Picturing(image_size=8, channels=3)


def _levels(pictures: PictureSet) -> list[int]:
    """Plain pictures are known by their grey level."""
    return sorted(pictures.pixels[:, 0, 0, 0].tolist())


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
    whole = write_picture(cut, random_pixels(64, 64, 3)).read_bytes()
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
    (tmp_path / "empty").mkdir()
    dataset = load(tmp_path, GREY)
    assert dataset.labels == ("cat", "dog")
    assert dataset.skipped == ()
    assert sorted(_levels(dataset.train) + _levels(dataset.val)) == [*range(10, 15), *range(100, 105)]


def test_progress_tells_every_picture(tmp_path: Path) -> None:
    told = []
    load(_two_classes(tmp_path), GREY, progress=lambda done, total: told.append((done, total)))
    assert told == [(done, 10) for done in range(1, 11)]


def test_pictures_go_through_the_fit_of_the_service(tmp_path: Path) -> None:
    write_picture(tmp_path / "a" / "0.png", random_pixels(8, 20, 3))
    write_picture(tmp_path / "a" / "1.png", random_pixels(8, 20, 3))
    write_picture(tmp_path / "b" / "0.png", random_pixels(8, 20, 3))
    picturing = Picturing(8, 3, Fit(mode="stretch"), "box")
    dataset = load(tmp_path, picturing)
    np.testing.assert_array_equal(dataset.train.pixels[0], read_pixels(tmp_path / "a" / "0.png", picturing))


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
    write_picture(tmp_path / "there" / "cat" / "new.png", random_pixels(8, 8))
    assert load(tmp_path / "there", GREY).fingerprint != here


def test_the_fingerprint_tells_how_pictures_became_pixels(tmp_path: Path) -> None:
    for index, label in enumerate("aabb"):
        write_picture(tmp_path / label / f"{index}.png", random_pixels(8, 20, seed=index))
    fits = (Fit(), Fit(mode="pad"), Fit(mode="stretch"))
    assert len({load(tmp_path, Picturing(8, 1, fit)).fingerprint for fit in fits}) == 3


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
    monkeypatch.setattr(data, "_IN_MEMORY_BYTES", 0)
    paged = load(tmp_path, GREY)
    np.testing.assert_array_equal(paged.train.pixels, in_memory.train.pixels)
    np.testing.assert_array_equal(paged.val.pixels, in_memory.val.pixels)


# --- single pictures ---


def test_read_pixels_gives_the_square(tmp_path: Path) -> None:
    path = write_picture(tmp_path / "a.png", random_pixels(8, 8, 3))
    np.testing.assert_array_equal(read_pixels(path, COLOUR), random_pixels(8, 8, 3))
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
    assert picture_files(tmp_path) == [tmp_path / name for name in ("a.jpeg", "b.PNG", "deep/d.webp")]


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
    dataset = load(tmp_path, COLOUR)
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
    assert read_pixels(tmp_path / "a.gif", COLOUR)[0, 0].tolist() == [200, 100, 50]


def test_whatever_a_decoder_raises_the_picture_is_skipped_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> None:
        raise EOFError

    monkeypatch.setattr("model.data.Image.open", broken)
    with pytest.raises(DataError, match=r"odd.gif is not a readable picture: EOFError"):
        read_pixels(tmp_path / "odd.gif", Picturing(8))
