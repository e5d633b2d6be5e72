"""A file of the service's own as an answer. Knows nothing of what is in it.

A large one is mapped into memory: the processes of a service share what the system has read of it. A map holds a file
open, so a small one is read.
"""

import mmap
from pathlib import Path

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

_PIECE_BYTES = 64 << 10  # of a file, until its client has taken what went before


class MappedFile(Response):
    """A file, large or small."""

    def __init__(self, path: Path, media_type: str) -> None:
        super().__init__(media_type=media_type)
        self._content: bytes | mmap.mmap = b""
        with path.open("rb") as file:
            if path.stat().st_size > _PIECE_BYTES:
                self._content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            else:
                self._content = file.read()
        self.headers["content-length"] = str(len(self._content))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, piece by piece."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        end = 0 if scope["method"] == "HEAD" else len(self._content)
        for at in range(0, end, _PIECE_BYTES):
            piece = self._content[at : at + _PIECE_BYTES]
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})
