"""Validation pictures that are training pictures saved anew are told, and pictures that are merely alike are not."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from model.data.dataset import PreprocessConfig
from model.data.loading import load
from model.training.start.near_duplicates import near_duplicates

pytestmark = pytest.mark.timeout(60)
COLOR = PreprocessConfig(image_size=32)


def drawing(seed: int) -> Image.Image:
    """Soft spots of color, as a photograph out of focus has."""
    pixels: NDArray[np.uint8] = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    return Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(6)).point(lambda level: (level - 96) * 4)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of four drawings to learn from and two to judge by, all of them different."""
    for seed in range(12):
        split, label = ("train" if seed < 8 else "val"), ("cat" if seed % 2 else "dog")
        path = tmp_path / split / label / f"{seed}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        drawing(seed).save(path)
    return tmp_path


def told(folder: Path) -> list[str]:
    return near_duplicates(load(folder, COLOR))


def test_different_pictures_are_not_told(folder: Path) -> None:
    assert told(folder) == []


@pytest.mark.parametrize("kind", ["smaller", "worse"])
def test_a_picture_saved_anew_is_told_with_both_paths(folder: Path, kind: str) -> None:
    copy = folder / "val" / "cat" / f"{kind}.jpg"
    image = drawing(1) if kind == "worse" else drawing(1).resize((48, 48))
    image.save(copy, quality=60)
    (line,) = told(folder)
    assert line.startswith("warning: 1 of 5 validation pictures look like training pictures, saved anew")
    assert f"{copy} = {folder / 'train' / 'cat' / '1.png'}" in line


def test_the_same_pixels_are_told_elsewhere(folder: Path) -> None:
    drawing(1).save(folder / "val" / "cat" / "same.png")
    assert told(folder) == []


def test_plain_pictures_are_like_one_another_and_are_not_told(folder: Path) -> None:
    for level, split in ((120, "train"), (121, "val")):
        Image.new("RGB", (64, 64), (level, level, level)).save(folder / split / "cat" / "plain.png")
    assert told(folder) == []


def test_the_shape_in_other_colors_is_another_picture(folder: Path) -> None:
    pixels = np.asarray(drawing(1)).astype(float)
    Image.fromarray((pixels * 0.5).astype(np.uint8)).save(folder / "val" / "cat" / "dark.png")
    assert told(folder) == []


def test_streamed_pictures_are_not_looked_at(folder: Path) -> None:
    drawing(1).save(folder / "val" / "cat" / "worse.jpg", quality=60)
    assert near_duplicates(load(folder, COLOR, stream=True)) == []


def test_pictures_of_few_pixels_are_not_looked_at(folder: Path) -> None:
    drawing(1).save(folder / "val" / "cat" / "worse.jpg", quality=60)
    assert near_duplicates(load(folder, PreprocessConfig(image_size=28))) == []
