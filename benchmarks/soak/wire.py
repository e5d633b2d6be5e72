"""One client's connection to a service, and the answers that come over it. Knows nothing of what they should say."""

import asyncio
import re
import socket
import struct
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

ANSWER_TIMEOUT_S = 60.0
_MOST_BYTES = 16 << 20  # of an answer
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
_AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends a reset


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    head: bytes
    body: bytes


class NotConnectedError(Exception):
    """Nobody listens, so nothing was accepted."""


class BrokenError(Exception):
    """The connection ended, or stayed silent, in place of an answer. `began`: a part of the answer had come."""

    def __init__(self, words: str, *, began: bool) -> None:
        super().__init__(words)
        self.began = began


class Link:
    """An open connection. `alive_at`: when it was last known to work, in seconds of time.monotonic."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.alive_at = time.monotonic()
        self.is_open = True

    @classmethod
    async def to(cls, port: int) -> Self:
        """A new connection. Raises NotConnectedError."""
        try:
            return cls(*await asyncio.open_connection("127.0.0.1", port, limit=_MOST_BYTES))
        except OSError as error:
            raise NotConnectedError(str(error)) from error

    async def send(self, pieces: Sequence[bytes], pause_s: float = 0.0) -> None:
        """Write all, with a pause between two pieces. What the service no longer hears is no error here."""
        with suppress(OSError):
            for number, piece in enumerate(pieces):
                if number:
                    await self._writer.drain()
                    await asyncio.sleep(pause_s)
                if self._writer.is_closing():  # by the service; its last words may be there to read
                    return
                self._writer.write(piece)
            await self._writer.drain()

    async def answer(self) -> Answer:
        """The next one. Raises BrokenError."""
        head = b""
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                head = await self._reader.readuntil(b"\r\n\r\n")
                length = _LENGTH.search(head)
                body = await self._reader.readexactly(int(length[1])) if length else b""
        except TimeoutError:
            self.close()
            raise BrokenError(f"no answer within {ANSWER_TIMEOUT_S:g} s", began=bool(head)) from None
        except asyncio.IncompleteReadError as error:
            self.close()
            raise BrokenError("the connection was closed", began=bool(head or error.partial)) from error
        except (OSError, asyncio.LimitOverrunError) as error:
            self.close()
            raise BrokenError(str(error) or type(error).__name__, began=bool(head)) from error
        self.alive_at = time.monotonic()
        if _CLOSE.search(head):
            self.close()
        return Answer(int(head[9:12]), head, body)

    def close(self) -> None:
        """Hang up."""
        self.is_open = False
        self._writer.close()

    def reset(self) -> None:
        """Hang up at once: what is under way is thrown away, and the other end gets an error."""
        with suppress(OSError):
            self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        self.is_open = False
        self._writer.transport.abort()
