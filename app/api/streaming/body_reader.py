"""The body of a request, piece by piece, and exactly as much of it as is wanted. Knows no format of it."""

import asyncio
import zlib
from typing import Protocol

from starlette.requests import Request

from app.errors import BadRequest, ClientGone, DeadlinePassed

_GZIP = b"\x1f\x8b"
_PIECE_BYTES = 64 << 10  # of what a compressed body stands for, at once


class Pieces(Protocol):
    """What comes piece by piece."""

    async def next(self) -> bytes:
        """The next piece, never empty but at the end."""
        ...


class Body:
    """The pieces of a request's body. A client that sends nothing for `patience_s` is given up.

    Raises: ClientGone, DeadlinePassed.
    """

    def __init__(self, request: Request, patience_s: float) -> None:
        self._request, self._patience_s = request, patience_s
        self._is_over = False

    async def next(self) -> bytes:
        """The next piece, never empty but at the end."""
        try:
            async with asyncio.timeout(self._patience_s):
                while not self._is_over:
                    message = await self._request.receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGone
                    self._is_over = not message.get("more_body", False)
                    if piece := message.get("body", b""):
                        return bytes(piece)
        except TimeoutError:
            raise DeadlinePassed(f"Nothing more of the body came within {self._patience_s:g} s.") from None
        return b""


class Gunzipped:
    """What pieces in gzip stand for, a bounded piece at a time. Raises BadRequest."""

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces
        self._zlib = zlib.decompressobj(16 + zlib.MAX_WBITS)
        self._rest = b""

    async def next(self) -> bytes:
        """The next piece, never empty but at the end."""
        while not self._zlib.eof:
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
        if self._zlib.unused_data or await self._pieces.next():
            raise BadRequest("The body goes on behind its gzip data.")
        return b""


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

    async def exactly(self, count: int) -> bytes:
        """So many bytes; fewer, or none, where the body ends before."""
        while len(self._held) < count and (piece := await self._pieces.next()):
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
