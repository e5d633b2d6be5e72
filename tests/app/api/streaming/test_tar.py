"""A tar that arrives in pieces of any size is what tarfile says it is; what is no tar, or not all of it, is refused."""

import asyncio
import gzip
import io
import tarfile
import time
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.streaming.body_reader import BodyReader
from app.api.streaming.tar import Member, members_of
from app.errors import BadRequest

FILES = {"a.jpg": b"one", "folder/b.png": b"x" * 1000, "c": b"", "long/" + "n" * 200 + ".jpg": b"y" * 512}


class Pieces:
    """A body in pieces."""

    def __init__(self, content: bytes, size: int = 700) -> None:
        self._pieces = [content[at : at + size] for at in range(0, len(content), size)]

    async def next(self) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""


def tar_of(files: Iterable[tuple[str, bytes]], kind: int = tarfile.PAX_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=kind) as tar:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


def read(content: bytes, size: int = 700, max_bytes: int = 10_000, reserved: list[int] | None = None) -> list[Member]:
    async def reserve(count: int) -> None:
        if reserved is not None:
            reserved.append(count)

    async def members() -> list[Member]:
        reader = BodyReader(Pieces(content, size))
        await reader.expect_gzip_or_not()
        return [member async for member in members_of(reader, max_bytes, reserve)]

    return asyncio.run(members())


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("size", [1, 511, 512, 100_000])
def test_every_file_comes_in_order_whatever_the_pieces(kind: int, size: int) -> None:
    files = {name: content for name, content in FILES.items() if kind != tarfile.USTAR_FORMAT or len(name) < 100}
    found = read(tar_of(files.items(), kind), size)
    assert [(one.name, one.content) for one in found] == list(files.items())
    assert [one.size for one in found] == [len(content) for content in files.values()]


@given(
    files=st.lists(st.tuples(st.text("abcé/ü", min_size=1, max_size=150), st.binary(max_size=1500)), max_size=5),
    size=st.integers(1, 3000),
    kind=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    compressed=st.booleans(),
)
def test_names_and_contents_are_those_that_tarfile_reads(
    files: list[tuple[str, bytes]], size: int, kind: int, compressed: bool
) -> None:
    content = tar_of(files, kind)
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        expected = [(one.name, tar.extractfile(one).read()) for one in tar if one.isfile()]  # type: ignore[union-attr]
    found = read(gzip.compress(content) if compressed else content, size)
    assert [(one.name.rstrip("/"), one.content) for one in found] == [
        (name.rstrip("/"), told) for name, told in expected
    ]


def test_folders_links_and_hidden_files_are_passed_over() -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, kind in (("folder", tarfile.DIRTYPE), ("link", tarfile.SYMTYPE), ("hard", tarfile.LNKTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "elsewhere"
            tar.addfile(info)
        for name in ("folder/.DS_Store", "folder/._a.jpg", "folder/a.jpg"):
            info = tarfile.TarInfo(name)
            info.size = 3
            tar.addfile(info, io.BytesIO(b"abc"))
    assert [(one.name, one.content) for one in read(file.getvalue())] == [("folder/a.jpg", b"abc")]


def test_a_file_over_the_limit_comes_without_its_content_and_the_next_one_with() -> None:
    reserved: list[int] = []
    found = read(tar_of([("large", b"x" * 5000), ("small", b"y" * 30)]), max_bytes=4999, reserved=reserved)
    assert found == [Member("large", 5000, None), Member("small", 30, b"y" * 30)]
    assert sum(reserved) == 30  # of what is kept


def test_bytes_are_reserved_as_they_come_and_not_because_a_header_says_so() -> None:
    reserved: list[int] = []
    content = tar_of([("a", b"x" * 5000)])
    with pytest.raises(BadRequest, match="ends before its end mark"):
        read(content[: 512 + 1500], size=500, reserved=reserved)
    assert sum(reserved) == 1500


def test_many_records_take_no_longer_than_their_bytes() -> None:
    records = b"5 a=\n" * (65_000 // 6)
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, len(records)
    header = info.tobuf() + records + bytes(-len(records) % 512)
    began = time.process_time()
    assert len(read(header * 10 + tar_of([("a", b"1")]))) == 1
    assert time.process_time() - began < 2  # quadratic, it took ten times as long


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (lambda tar: tar[:700], "ends before its end mark"),
        (lambda tar: tar[:512], "ends before its end mark"),
        (lambda tar: tar[:1024], "ends before its end mark"),
        (lambda tar: tar[:100], "ends before its end mark"),
        (lambda tar: b"", "ends before its end mark"),
        (lambda tar: b"hello, this is no tar at all" * 30, "is no tar"),
        (lambda tar: tar[:148] + b"0000000\0" + tar[156:], "is no tar"),  # the checksum
        (lambda tar: gzip.compress(tar)[:-30], "ends before its gzip data"),
        (lambda tar: gzip.compress(tar) + b"more", "goes on behind its gzip data"),
        (lambda tar: b"\x1f\x8bno gzip" + tar, "is no gzip"),
        (lambda tar: gzip.compress(tar) + b"\0more", "goes on behind its gzip data"),
    ],
)
def test_what_is_no_whole_tar_is_refused(broken: Callable[[bytes], bytes], words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        read(broken(tar_of([("a.jpg", b"x" * 300)])))


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_may_not_be_as_long_as_it_likes(kind: bytes) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, 1 << 30
    with pytest.raises(BadRequest, match="has a header of 1073741824 bytes; expected at most 65536"):
        read(info.tobuf() + bytes(1024))


@pytest.mark.parametrize(
    "records", [b"12 path=a\n", b"x path=abc\n", b"9 path=a", b"0 path=a\n", b"999999999999 path=a\n", b"\xff"]
)
def test_malformed_records_are_refused(records: bytes) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, len(records)
    with pytest.raises(BadRequest, match="malformed"):
        read(info.tobuf() + records + bytes(-len(records) % 512) + bytes(1024))


def test_gzip_may_have_several_members_and_zeros_behind_them() -> None:
    content = tar_of(FILES.items())
    compressed = gzip.compress(content[:700]) + gzip.compress(content[700:])
    assert len(read(compressed + bytes(600))) == len(FILES)


def test_what_holds_for_all_files_leaves_a_name_for_the_next() -> None:
    def header(kind: bytes, records: bytes) -> bytes:
        info = tarfile.TarInfo("x")
        info.type, info.size = kind, len(records)
        return info.tobuf() + records + bytes(-len(records) % 512)

    named = header(tarfile.XHDTYPE, b"13 path=real\n") + header(tarfile.XGLTYPE, b"13 comment=x\n")
    assert [one.name for one in read(named + tar_of([("a", b"1")]))] == ["real"]


def test_a_sparse_file_is_refused() -> None:
    info = tarfile.TarInfo("holes")
    info.type = tarfile.GNUTYPE_SPARSE
    with pytest.raises(BadRequest, match="has a sparse file, 'holes'"):
        read(info.tobuf() + bytes(1024))


def test_what_follows_the_end_is_read_and_passed_over() -> None:
    content = tar_of([("a", b"1")])
    assert len(read(content + content)) == 1
