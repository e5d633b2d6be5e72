"""Archives that were joined, cut, forged or locked: none loses a picture, takes much memory or ends the command."""

import io
import lzma
import os
import struct
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from cli.bulk.entries import Ready
from cli.bulk.outcomes import Failure
from tests.app.color_bundle import GREEN, RED, image
from tests.cli.bulk.conftest import contents

_MANY_BYTES = 64 << 20


def tar_bytes(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as archive:
        for member, payload in members:
            member.size = len(payload)
            archive.addfile(member, io.BytesIO(payload))
    return file.getvalue()


def member(name: str, payload: bytes) -> tuple[tarfile.TarInfo, bytes]:
    return tarfile.TarInfo(name), payload


def failure_in(entry: Ready) -> str:
    assert isinstance(entry.content, Failure)
    assert entry.content.code == "unreadable_file"
    return entry.content.detail


def test_tars_that_were_joined_give_the_pictures_of_all(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(tar_bytes(member("a.png", image(RED))) + tar_bytes(member("b.png", image(GREEN))))
    assert contents(path) == [Ready(f"{path}::a.png", image(RED)), Ready(f"{path}::b.png", image(GREEN))]


@pytest.mark.parametrize("behind", [b"x" * 700, b"x" * 100])
def test_what_is_no_header_behind_the_end_of_a_tar_is_passed_over(behind: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(tar_bytes(member("a.png", image(RED))) + behind)
    assert contents(path) == [Ready(f"{path}::a.png", image(RED))]


def test_a_member_whose_name_is_not_utf_8_or_leads_elsewhere_is_read_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    odd, up = member(os.fsdecode(b"\xff.png"), image(RED)), member("../up.png", image(GREEN))
    path.write_bytes(tar_bytes(odd, up, form=tarfile.GNU_FORMAT))
    assert contents(path) == [Ready(f"{path}::\\xff.png", image(RED)), Ready(f"{path}::../up.png", image(GREEN))]


def test_a_header_that_is_as_long_as_a_disk_is_not_held(tmp_path: Path) -> None:
    about = tarfile.TarInfo("about")
    about.type = tarfile.XHDTYPE
    path = tmp_path / "x.tar.xz"
    path.write_bytes(lzma.compress(tar_bytes(member("a.png", image(RED)))[:1024] + tar_bytes((about, bytes(2 << 20)))))
    first, last = contents(path)
    assert first == Ready(f"{path}::a.png", image(RED))
    assert failure_in(last) == "It is broken: a header has 2097152 bytes; expected 1048576 at most."


def test_numbers_in_a_tar_that_are_none_end_it_with_a_failure(tmp_path: Path) -> None:
    sparse, payload = member("a.png", image(RED))
    sparse.pax_headers = {"GNU.sparse.map": "none"}
    path = tmp_path / "x.tar"
    path.write_bytes(tar_bytes((sparse, payload)))
    (only,) = contents(path)
    assert failure_in(only).startswith("It is broken: invalid literal")


def test_a_stream_that_is_broken_in_the_middle_ends_with_a_failure(tmp_path: Path) -> None:
    whole = tar_bytes(*(member(f"{at}.png", image(RED) + os.urandom(5000)) for at in range(20)))
    packed = bytearray(lzma.compress(whole))
    middle = len(packed) // 2
    packed[middle : middle + 50] = bytes(50)
    path = tmp_path / "x.tar.xz"
    path.write_bytes(packed)
    *before, last = contents(path)
    assert before
    assert last.name == str(path)
    assert failure_in(last).startswith("It is broken: ")


def test_a_zip_that_says_less_than_it_inflates_to_takes_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.png", bytes(_MANY_BYTES))
        archive.writestr("a.png", image(RED))
    forged = bytearray(path.read_bytes())
    struct.pack_into("<I", forged, 22, 1000)  # the size in the member's own header, and in the table of contents
    struct.pack_into("<I", forged, forged.find(b"PK\1\2") + 24, 1000)
    path.write_bytes(forged)
    tracemalloc.start()
    bomb, after = contents(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert failure_in(bomb).startswith("It is broken: Bad CRC-32")
    assert after == Ready(f"{path}::a.png", image(RED))
    assert peak < _MANY_BYTES / 2


def test_a_member_without_a_suffix_that_cannot_be_read_does_not_stop_the_others(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("locked", image(RED))
        archive.writestr("a.png", image(GREEN))
    locked = bytearray(path.read_bytes())
    locked[6] |= 1  # a password, in the member's own header, and in the table of contents
    locked[locked.find(b"PK\1\2") + 8] |= 1
    path.write_bytes(locked)
    first, second = contents(path)
    assert first.name == f"{path}::locked"
    assert "password" in failure_in(first)
    assert second == Ready(f"{path}::a.png", image(GREEN))


def test_a_zip_with_a_name_that_is_none_is_one_failure(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("é.png", image(RED))
    path.write_bytes(path.read_bytes().replace("é".encode(), b"\xff\xff"))
    (only,) = contents(path)
    assert failure_in(only).startswith("It is broken: ")
