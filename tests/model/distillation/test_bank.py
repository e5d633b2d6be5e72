"""Pictures in memory: their labels, shapes, cut-outs and large ones in parts."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from model.distillation import bank as bank_module
from model.distillation.bank import Bank, read_bank
from model.errors import DataError


def test_labelled_pictures_come_first_and_others_have_no_label(bank: Bank) -> None:
    assert bank.names == ("dark", "light")
    assert bank.labels[:24].tolist() == [0] * 12 + [1] * 12
    assert set(bank.labels[24:].tolist()) == {-1}
    assert bank.pixels.shape[1:] == (4, 192, 192)
    assert bank.pixels.dtype == torch.uint8


def test_aspects_are_width_by_height(bank: Bank) -> None:
    assert bank.aspects[:3].tolist() == pytest.approx([30 / 40, 31 / 40, 32 / 40])


def test_a_large_picture_becomes_several_squares_and_a_broken_file_none(bank: Bank) -> None:
    assert len(bank) == 24 + 1 + round(600 / 192 * 700 / 192)


def test_only_what_fills_its_square_is_a_background(bank: Bank) -> None:
    assert bank.backgrounds.tolist() == list(range(25, len(bank)))  # not the cut-out


def test_what_is_left_out_is_said_with_the_reason(data: Path, tmp_path: Path) -> None:
    notes: list[str] = []
    data = Path(shutil.copytree(data, tmp_path / "data"))
    (data / "train" / "dark" / "broken.jpg").write_bytes(b"no picture")
    (data / "train" / "dark" / "notes.txt").write_bytes(b"text")
    read_bank(data, [], 16, on_note=notes.append)
    broken, other = notes
    assert broken.startswith(f"skipped: {data}/train/dark/broken.jpg is not a readable picture: ")
    assert other == f"not used: 1 other file: {data}/train/dark/notes.txt."


def test_pictures_without_a_label_are_known_by_their_bytes(data: Path, tmp_path: Path) -> None:
    (tmp_path / "others").mkdir()
    Image.new("RGB", (20, 20)).save(tmp_path / "others" / "one.jfif", "JPEG")
    assert read_bank(data, [tmp_path / "others"], 16).labels.tolist().count(-1) == 1


def test_the_order_of_labels_may_be_given(data: Path) -> None:
    turned = read_bank(data, [], 16, ["light", "dark"])
    assert turned.names == ("light", "dark")
    bright = turned.pixels[turned.labels == 0, :3].float().mean()
    assert bright > 150


def test_a_folder_without_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        read_bank(tmp_path, [], 16)


def test_squares_of_a_half_transparent_picture_are_what_pillow_resizes_from_the_whole_of_it() -> None:
    """Premultiplied: what cannot be seen does not shine through."""
    noise = np.random.default_rng(0).integers(0, 256, (120, 150, 4), dtype=np.uint8)
    image, drawn = Image.fromarray(noise, "RGBA"), np.random.default_rng(1)
    squares = [square for square, _ in bank_module._squares(image, 16, np.random.default_rng(1), cut=True)]
    assert len(squares) == 32
    for square in squares:
        extent = 16 * (120 / 16) ** drawn.random()
        left, top = drawn.random() * (150 - extent), drawn.random() * (120 - extent)
        box = (left, top, left + extent, top + extent)
        np.testing.assert_array_equal(square, image.resize((16, 16), Image.Resampling.BILINEAR, box))
