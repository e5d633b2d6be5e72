"""Every kind of source gives the same pictures under the same names in the same order, time after time."""

import io
import os
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cli.bulk.entries import LocalFile, Ready, RemoteFile, ready
from cli.bulk.outcomes import Failure
from cli.bulk.sources import Sources
from cli.bulk.stores import SourceError, Stores
from model.errors import MixerError
from tests.app.color_bundle import BLUE, GREEN, RED, image
from tests.cli.bulk.conftest import MOST, contents, names_of, sources

PICTURES = {"a/red.png": image(RED), "a/green.jpg": image(GREEN, kind="JPEG"), "blue.gif": image(BLUE, kind="GIF")}
OTHERS = {"notes.txt": b"no picture", "__MACOSX/._red.png": b"no picture", ".hidden.png": b"no picture"}


def test_a_folder_is_walked_by_name_and_what_is_no_picture_is_passed_over(images: Path) -> None:
    assert names_of(images) == [f"{images}/b/blue.jpg", f"{images}/green.png", f"{images}/red.gif"]
    assert sources(images)[1].content == LocalFile(f"{images}/green.png")


def test_a_folder_is_listed_when_its_turn_comes(images: Path) -> None:
    entries = Sources([str(images)], MOST).entries()
    assert next(entries).name == f"{images}/b/blue.jpg"
    (images / "c").mkdir()
    (images / "c" / "late.png").write_bytes(image(RED))
    (images / "z").mkdir()
    assert f"{images}/c/late.png" not in [entry.name for entry in entries]  # its parent was listed before
    assert f"{images}/c/late.png" in names_of(images)


def test_a_picture_without_its_suffix_is_one_by_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "picture").write_bytes(image(RED))
    (tmp_path / "text").write_text("no picture")
    assert names_of(tmp_path) == [f"{tmp_path}/picture"]


def test_what_should_be_a_picture_and_cannot_be_read_has_a_failure(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(20))
    assert contents(tmp_path) == [
        Ready(f"{tmp_path}/dangling", Failure("unreadable_file", "It is a link that leads to no file.")),
        Ready(
            f"{tmp_path}/photo.heic",
            Failure("unreadable_file", "It is a HEIC picture; expected JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF."),
        ),
    ]


def test_a_name_that_is_not_utf_8_is_escaped_and_read_all_the_same(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png")).write_bytes(image(RED))
    assert contents(tmp_path) == [Ready(f"{tmp_path}/\\xff.png", image(RED))]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.png", ["green.png"]),
        ("**/*.jpg", ["b/blue.jpg"]),
        ("**", ["b/blue.jpg", "green.png", "notes.txt", "red.gif"]),
        ("b", ["b/blue.jpg"]),
        ("[bg]*", ["b/blue.jpg", "green.png"]),
        ("*/blue.*", ["b/blue.jpg"]),
        ("**/?e*.*", ["red.gif"]),
        ("**/b*", ["b/blue.jpg"]),
    ],
)
def test_a_pattern_names_files_and_folders(pattern: str, found: list[str], images: Path) -> None:
    expected = [f"{images}/{name}" for name in found]
    assert names_of(images / pattern) == expected


def test_a_pattern_that_could_name_a_picture_twice_is_one_line(images: Path) -> None:
    with pytest.raises(SourceError, match=r"has \*\* more than once"):
        names_of(images / "**" / "b" / "**" / "*.jpg")


def test_a_pattern_may_be_of_the_folder_one_is_in(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(images)
    assert names_of("*.png") == ["green.png"]
    assert names_of("b/*") == ["b/blue.jpg"]


def test_a_pattern_that_matches_nothing_and_a_path_that_is_not_there_have_failures(tmp_path: Path) -> None:
    matched, missing = (entry.content for entry in sources(tmp_path / "*.png", tmp_path / "gone.png"))
    assert matched == Failure("missing_file", "Nothing matches it; expected pictures.")
    assert isinstance(missing, Failure)
    assert missing.code == "missing_file"


def tar(path: Path, mode: str, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, payload in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(payload)
            archive.addfile(member, io.BytesIO(payload))
    return path


@pytest.mark.parametrize(
    ("name", "mode"), [("x.tar", "w"), ("x.tar.gz", "w:gz"), ("x.tgz", "w:gz"), ("x.tar.xz", "w:xz")]
)
def test_a_tar_gives_its_pictures_in_its_order(name: str, mode: str, tmp_path: Path) -> None:
    archive = tar(tmp_path / name, mode, {**OTHERS, **PICTURES, "unnamed": image(RED)})
    expected = [Ready(f"{archive}::{name}", payload) for name, payload in PICTURES.items()]
    assert contents(archive) == [*expected, Ready(f"{archive}::unnamed", image(RED))]


def test_the_members_of_a_tar_need_not_be_read_to_be_named(tmp_path: Path) -> None:
    archive = tar(tmp_path / "x.tar", "w", PICTURES)
    assert names_of(archive) == [f"{archive}::{name}" for name in PICTURES]


def test_a_tar_holds_none_of_its_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []
    really = tarfile.TarFile.next

    def next_of(archive: tarfile.TarFile) -> tarfile.TarInfo | None:
        held.append(len(archive.members))
        return really(archive)

    monkeypatch.setattr(tarfile.TarFile, "next", next_of)
    archive = tar(tmp_path / "x.tar", "w", {f"{at}.png": image(RED) for at in range(9)})
    assert len(names_of(archive)) == 9
    assert len(held) > 9
    assert max(held) <= 1  # the first is read when the archive is opened


@pytest.mark.parametrize("broken_at", [lambda size: size // 2, lambda size: 512 + 100])
def test_a_tar_that_is_cut_short_ends_with_a_failure(broken_at: Callable[[int], int], tmp_path: Path) -> None:
    archive = tar(tmp_path / "x.tar", "w", {f"{at}.png": image(RED) for at in range(40)})
    whole = archive.read_bytes()
    archive.write_bytes(whole[: broken_at(len(whole))])
    *before, last = contents(archive)
    assert all(isinstance(entry.content, bytes | Failure) for entry in before)
    assert isinstance(last.content, Failure)
    assert last.content.detail.startswith("It is broken: ")


def test_a_tar_with_a_broken_header_in_the_middle_ends_with_a_failure(tmp_path: Path) -> None:
    archive = tar(tmp_path / "x.tar", "w", {f"{at}.png": image(RED) for at in range(3)})
    whole = bytearray(archive.read_bytes())
    whole[1024 : 1024 + 512] = b"x" * 512  # each has a header and a block
    archive.write_bytes(whole)
    first, last = contents(archive)
    assert first == Ready(f"{archive}::0.png", image(RED))
    assert last.name == str(archive)
    assert isinstance(last.content, Failure)


def test_a_link_in_a_tar_is_a_failure_and_so_is_what_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as archive:
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "elsewhere.png"
        archive.addfile(link)
        large = tarfile.TarInfo("large.png")
        large.size = MOST + 1
        archive.addfile(large, io.BytesIO(bytes(MOST + 1)))
    first, second = contents(path)
    assert isinstance(first.content, Failure)
    assert first.content.code == "unreadable_file"
    assert isinstance(second.content, Failure)
    assert second.content.code == "too_many_bytes"


def test_a_zip_gives_its_pictures_in_its_order(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, payload in {**PICTURES, **OTHERS}.items():
            archive.writestr(name, payload)
    assert contents(path) == [Ready(f"{path}::{name}", payload) for name, payload in PICTURES.items()]


def test_a_broken_picture_in_a_zip_does_not_stop_the_others(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", image(RED))
        archive.writestr("b.png", image(GREEN))
    path.write_bytes(path.read_bytes().replace(image(RED), image(RED)[::-1], 1))
    first, second = contents(path)
    assert isinstance(first.content, Failure)
    assert first.content.code == "unreadable_file"
    assert second == Ready(f"{path}::b.png", image(GREEN))


def test_what_is_no_zip_is_one_failure(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(b"no archive")
    (only,) = contents(tmp_path / "x.zip")
    assert only == Ready(f"{tmp_path}/x.zip", Failure("unreadable_file", "It is broken: File is not a zip file."))


def table(path: Path, columns: dict[str, list[object]], rows: int = 2) -> Path:
    pq.write_table(pa.table(columns), path, row_group_size=rows)
    return path


def test_a_parquet_file_gives_its_only_column_of_bytes_by_row(tmp_path: Path) -> None:
    pictures = [*PICTURES.values(), image(RED), image(GREEN)]
    path = table(tmp_path / "x.parquet", {"label": [1, 2, 3, 4, 5], "picture": pictures})
    assert contents(path) == [Ready(f"{path}::{row}", picture) for row, picture in enumerate(pictures)]
    assert contents(f"{path}::picture") == contents(path)


def test_rows_that_are_skipped_shift_no_others(tmp_path: Path) -> None:
    pictures = [image((at, 0, 0)) for at in range(200)]
    path = table(tmp_path / "x.parquet", {"picture": list(pictures)}, rows=150)
    entries = enumerate(Sources([str(path)], MOST).entries())
    taken = {at: ready(entry).content for at, entry in entries if at in (70, 149, 199)}
    assert taken == {at: pictures[at] for at in (70, 149, 199)}


def test_a_parquet_file_may_have_structs_of_bytes_as_hugging_face_writes_them(tmp_path: Path) -> None:
    rows = [{"bytes": image(RED), "path": "red.png"}, {"bytes": None, "path": "elsewhere.png"}, None]
    path = table(tmp_path / "x.parquet", {"image": list(rows)})
    first, *others = contents(path)
    assert first == Ready(f"{path}::0", image(RED))
    nothing = Failure("bad_request", "The row has no bytes; expected a picture in it.")
    assert others == [Ready(f"{path}::1", nothing), Ready(f"{path}::2", nothing)]


def test_a_column_that_is_not_there_or_not_the_only_one_is_named(tmp_path: Path) -> None:
    path = table(tmp_path / "x.parquet", {"a": [b"1"], "b": [b"2"], "c": [3]})
    with pytest.raises(SourceError, match=r"has 2 columns with bytes \(a, b\); expected .*::COLUMN\."):
        names_of(path)
    with pytest.raises(SourceError, match="no column 'c' with bytes; expected one of these: a, b"):
        names_of(f"{path}::c")


def test_what_is_no_parquet_file_is_one_failure(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"no table")
    (only,) = contents(tmp_path / "x.parquet")
    assert isinstance(only.content, Failure)


@pytest.fixture
def memory() -> str:
    """A store in this process that has what a folder has, and a tar of it."""
    store = fsspec.filesystem("memory")
    for name, payload in {**PICTURES, **OTHERS}.items():
        store.pipe(f"/shop/{name}", payload)
    store.pipe("/shop.tar", _tar_bytes())
    return "memory://shop"


def _tar_bytes() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        member = tarfile.TarInfo("red.png")
        member.size = len(image(RED))
        archive.addfile(member, io.BytesIO(image(RED)))
    return file.getvalue()


def test_a_url_gives_what_its_folder_has_by_name(memory: str) -> None:
    assert contents(memory) == [
        Ready("memory://shop/a/green.jpg", PICTURES["a/green.jpg"]),
        Ready("memory://shop/a/red.png", PICTURES["a/red.png"]),
        Ready("memory://shop/blue.gif", PICTURES["blue.gif"]),
    ]


def test_patterns_archives_and_single_files_may_be_behind_urls(memory: str) -> None:
    assert names_of(f"{memory}/*/*.png") == ["memory://shop/a/red.png"]
    assert contents("memory://shop/blue.gif") == [Ready("memory://shop/blue.gif", PICTURES["blue.gif"])]
    assert contents("memory://shop.tar") == [Ready("memory://shop.tar::red.png", image(RED))]
    (missing,) = contents("memory://elsewhere")
    assert isinstance(missing.content, Failure)


def test_a_scheme_that_nobody_knows_is_one_line() -> None:
    with pytest.raises(MixerError, match=r"^nosuch://x cannot be read: .*nosuch"):
        names_of("nosuch://x")


def test_a_url_may_be_of_this_machine(images: Path) -> None:
    assert names_of(f"file://{images}") == [f"file://{name}" for name in names_of(images)]
    assert _payloads(f"file://{images}/*.png") == [image(GREEN)]


def _payloads(source: str) -> list[bytes | Failure]:
    stores = Stores(MOST)
    urls = [entry.content for entry in sources(source) if isinstance(entry.content, RemoteFile)]
    return [stores.read({url: size})[url] for url, size in urls]


def test_a_url_whose_host_is_no_part_of_its_paths_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fsspec.get_filesystem_class("webhdfs"), "_connect", lambda _self: None)
    with pytest.raises(MixerError, match=r"^webhdfs://one:9870/a\.png cannot be read: paths of webhdfs do not"):
        names_of("webhdfs://one:9870/a.png")


def test_a_store_whose_package_is_missing_says_what_to_install() -> None:
    with pytest.raises(MixerError, match=r"^gs://bucket/x cannot be read here: .*gcsfs"):
        names_of("gs://bucket/x")


def test_standard_input_is_a_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(image(RED))))
    assert contents("-") == [Ready("-", image(RED))]


def test_pictures_are_counted_where_that_is_cheap(images: Path, tmp_path: Path) -> None:
    archive = tar(tmp_path / "x.tar", "w", PICTURES)
    assert Sources([str(images), f"{images}/*.png"], MOST).count() == 4
    assert Sources([str(images), str(archive)], MOST).count() is None
    assert Sources(["s3://bucket"], MOST).count() is None
