"""Compressed bodies in pieces: what they stand for, and what is refused before it costs anything."""

import gzip
import time
import zlib
from collections.abc import Callable

import pytest

from app.errors import BadRequest, TooManyBytes
from app.http.inflate import Inflate
from app.http.upload_budget import BodyReservation, UploadBudget
from app.system.quota import Quota

MOST_BYTES = 8 << 20
COMPRESS: dict[bytes, Callable[[bytes], bytes]] = {b"gzip": gzip.compress, b"deflate": zlib.compress}
LONG = bytes((1 << 20) + 1)  # more than is inflated at once

pytestmark = pytest.mark.parametrize("encoding", COMPRESS)


def inflated(encoding: bytes, *pieces: bytes, room: int = 1 << 30) -> bytes:
    """What the pieces stand for, once all of them have come."""
    found: list[bytes] = []
    with BodyReservation(UploadBudget(Quota(room), lambda: None)) as reservation:
        inflate = Inflate(encoding, MOST_BYTES, reservation, found.append)
        for piece in pieces:
            inflate(piece)
        inflate.end()
    return b"".join(found)


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_it_does_not_matter_how_a_body_is_cut(encoding: bytes, size: int) -> None:
    for content in (b"", b"some text " * 500, LONG):
        body = COMPRESS[encoding](content)
        assert inflated(encoding, *(body[at : at + size] for at in range(0, len(body), size))) == content


@pytest.mark.timeout(30)
@pytest.mark.parametrize("content", [b"", b"short", LONG, bytes(3 << 20)])
def test_nothing_is_read_behind_the_end(encoding: bytes, content: bytes) -> None:
    body = COMPRESS[encoding](content)
    for more in (b"x", bytes(100), body):
        for pieces in ((body + more,), (body, more), (body[:-1], body[-1:] + more)):
            with pytest.raises(BadRequest, match="does not end where"):
                inflated(encoding, *pieces)


@pytest.mark.timeout(30)
def test_what_follows_the_end_is_refused_with_its_first_piece(encoding: bytes) -> None:
    started = time.process_time()
    with pytest.raises(BadRequest, match="does not end where"):
        inflated(encoding, COMPRESS[encoding](b"a"), *[bytes(1 << 16)] * 1000)
    assert time.process_time() - started < 1.0  # where all of it were kept, and copied with each piece, many seconds


def test_a_bomb_is_refused_before_it_goes_off(encoding: bytes) -> None:
    with pytest.raises(TooManyBytes, match=f"more than {MOST_BYTES} bytes"):
        inflated(encoding, COMPRESS[encoding](bytes(MOST_BYTES + 1)))


def test_what_is_cut_off_or_something_else_is_refused(encoding: bytes) -> None:
    body = COMPRESS[encoding](b"some text")
    for broken in (body[:-1], b"no such thing", b"\0" * 20):
        with pytest.raises(BadRequest):
            inflated(encoding, broken)
