"""The body of a request, piece by piece, and exactly as much of it as is wanted. Knows no format of it."""

import asyncio
import zlib
from collections.abc import Awaitable, Callable
from typing import Protocol

from starlette.requests import Request

from app.errors import BadRequest, ClientGone, DeadlinePassed

_GZIP = b"\x1f\x8b"
_PIECE_BYTES = 64 << 10  # of what a compressed body stands for, at once

Reserve = Callable[[int], Awaitable[object]]


class Pieces(Protocol):
    """What comes piece by piece."""

    async def next(self) -> bytes:
        """The next piece, never empty but at the end."""
        ...


class Body:
    """The pieces of a request's body. A client that lets wait for `patience_s` in all is given up, unless `renew`ed.

    Raises: ClientGone, DeadlinePassed.
    """

    def __init__(self, request: Request, patience_s: float) -> None:
        self._request, self._patience_s = request, patience_s
        self._left_s = patience_s
        self._is_over = False

    def renew(self) -> None:
        """A picture has come: the next one has the same time."""
        self._left_s = self._patience_s

    async def next(self) -> bytes:
        """The next piece, never empty but at the end."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(self._left_s):
                while not self._is_over:
                    message = await self._request.receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGone
                    self._is_over = not message.get("more_body", False)
                    if piece := message.get("body", b""):
                        return bytes(piece)
        except TimeoutError:
            raise DeadlinePassed(f"The next picture had not come after {self._patience_s:g} s.") from None
        finally:
            self._left_s = max(0.0, self._left_s - (loop.time() - began))
        return b""


class Gunzipped:
    """What pieces in gzip, of one member or several, stand for, a bounded piece at a time. Raises BadRequest."""

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces
        self._zlib = _inflate()
        self._rest = b""

    async def next(self) -> bytes:
        """The next piece, never empty but at the end."""
        while not self._zlib.eof or await self._goes_on():
            compressed = self._rest or await self._pieces.next()
            if not compressed:
                raise BadRequest("The body ends before its gzip data do.")
            try:
                piece = self._zlib.decompress(compressed, _PIECE_BYTES)
            except zlib.error as error:
                raise BadRequest(f"The body is no gzip: {error}.") from None
            self._rest = self._zlib.unconsumed_tail
            await asyncio.sleep(0)  # a small body may stand for a large one
            if piece:
                return piece
        return b""

    async def _goes_on(self) -> bool:
        """Whether another member follows; zeros that fill a block are none."""
        rest = self._zlib.unused_data.lstrip(b"\0")
        while len(rest) < len(_GZIP) and (piece := await self._pieces.next()):
            rest = (rest + piece).lstrip(b"\0")
        if not rest:
            return False
        if not rest.startswith(_GZIP):
            raise BadRequest("The body goes on behind its gzip data.")
        self._zlib, self._rest = _inflate(), rest
        return True


class BodyReader:
    """Pieces as a stream."""

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces
        self._held = bytearray()

    async def expect_gzip_or_not(self) -> None:
        """Look at the first bytes: what is compressed is read as what it stands for."""
        while len(self._held) < len(_GZIP) and (piece := await self._pieces.next()):
            self._held += piece
        if self._held.startswith(_GZIP):
            self._pieces = Gunzipped(_Before(bytes(self._held), self._pieces))
            self._held.clear()

    async def exactly(self, count: int, reserve: Reserve | None = None) -> bytes:
        """So many bytes; fewer, or none, where the body ends before. `reserve`: awaited for those that have come."""
        reserved = 0
        while True:
            come = min(count, len(self._held))
            if reserve is not None and come > reserved:
                await reserve(come - reserved)
                reserved = come
            if come == count or not (piece := await self._pieces.next()):
                break
            self._held += piece
        taken = bytes(self._held[:count])
        del self._held[:count]
        return taken

    async def skip(self, count: int) -> bool:
        """Pass over so many bytes. False where the body ends before."""
        while count > len(self._held):
            count -= len(self._held)
            self._held.clear()
            piece = await self._pieces.next()
            if not piece:
                return False
            self._held += piece
        del self._held[:count]
        return True

    async def skip_rest(self) -> None:
        """Pass over all that is to come."""
        self._held.clear()
        while await self._pieces.next():
            pass


class _Before:
    """A piece, and then others."""

    def __init__(self, first: bytes, then: Pieces) -> None:
        self._first, self._then = first, then

    async def next(self) -> bytes:
        if self._first:
            first, self._first = self._first, b""
            return first
        return await self._then.next()


def _inflate() -> "zlib._Decompress":
    return zlib.decompressobj(16 + zlib.MAX_WBITS)
