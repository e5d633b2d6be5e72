"""What lies below a folder, by its bytes."""

from pathlib import Path

import pytest
from PIL import Image

from model.data.scan import FORMATS, scan, shown


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_known_without_its_suffix(tmp_path: Path, kind: str) -> None:
    Image.new("RGB", (16, 16), (200, 100, 50)).save(tmp_path / "picture", kind)
    assert [file.path for file in scan(tmp_path).images] == [tmp_path / "picture"]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.HEIC", b"\0\0\0\x18ftypheic", "is a HEIC picture"),
        ("a", b"\0\0\0\x18ftypheix", "is a HEIC picture"),
        ("a.heif", b"\0\0\0\x18ftypmif1", "is a HEIF picture"),
        ("a.jxl", b"\xff\x0a\x00", "is a JPEG XL picture"),
        ("a.txt", b"%PDF-1.7", "is a PDF document"),
        ("a.jfif", b"hello", "is not a readable picture: it starts with 68656c6c."),
        ("a.nef", b"", "is not a readable picture: it starts with nothing."),
    ],
)
def test_what_looks_like_a_picture_and_is_none_is_listed_with_the_reason(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    (tmp_path / name).write_bytes(content)
    found = scan(tmp_path)
    assert (found.images, found.others) == ([], [])
    assert found.unreadable[0][1].startswith(f"{tmp_path / name} {reason}")


@pytest.mark.parametrize(("name", "content"), [("notes.txt", b"hello"), ("BM", b"BMW"), ("labels.csv", b"")])
def test_other_files_are_no_pictures(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert scan(tmp_path).others == [tmp_path / name]


@pytest.mark.parametrize("name", ["Thumbs.db", "desktop.ini", ".DS_Store", "._0.jpg"])
def test_files_that_systems_make_are_passed_over(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"anything")
    found = scan(tmp_path)
    assert not found.images + found.unreadable + found.others


def test_a_folder_that_cannot_be_looked_into_is_listed(tmp_path: Path) -> None:
    found = scan(tmp_path / "none")
    assert found.unreadable == [(tmp_path / "none", f"{tmp_path}/none cannot be read: No such file or directory.")]


def test_a_path_is_shown_on_one_line_whatever_its_bytes() -> None:
    assert shown(Path("a\nb\x1b[31m\udcff\u202e.jpg")) == "a\\nb\\x1b[31m\\xff\\u202e.jpg"
    assert shown(Path("caf\u00e9 \u732b.jpg")) == "caf\u00e9 \u732b.jpg"
