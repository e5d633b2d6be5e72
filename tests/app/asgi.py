"""One request to an ASGI application, message by message: what httpx's transport cannot do."""

import asyncio
import json
from typing import Any

from starlette.types import ASGIApp, Message

from app.http.disconnect import DISCONNECT, Disconnect
from app.server.gate import Gate


class AsgiCall:
    """A client that sends its body in pieces, or hangs up. `listened` is set once the service waits for a message."""

    def __init__(self, path: str, headers: dict[str, str] | None = None, *, method: str = "POST") -> None:
        path, _, query = path.partition("?")
        self._scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()],
            "client": ("127.0.0.1", 50000),
            "server": ("service", 80),
        }
        self._disconnect = self._scope[DISCONNECT] = Disconnect()
        self._incoming: asyncio.Queue[Message] = asyncio.Queue()
        self.sent: list[Message] = []
        self.listened = asyncio.Event()
        self._was_sent = asyncio.Event()

    def send_body(self, piece: bytes, *, more: bool = False) -> None:
        self._incoming.put_nowait({"type": "http.request", "body": piece, "more_body": more})

    def hang_up(self) -> None:
        self._incoming.put_nowait({"type": "http.disconnect"})
        self._disconnect.set()

    def ask(self, gate: Gate) -> bytes | None:
        """What the gate answers to the head, as a connection asks it; None where the request may come in."""
        url = self._scope["raw_path"]
        return gate.reject_early(self._scope["method"].encode(), url, self._scope, keep_alive=True)

    async def until_sent(self, part: bytes) -> None:
        """Until a piece of the answer has this in it."""
        while not any(part in message.get("body", b"") for message in self.sent):
            self._was_sent.clear()
            await self._was_sent.wait()

    async def go(self, app: ASGIApp) -> None:
        await app(self._scope, self._receive, self._send)

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def body(self) -> Any:
        return json.loads(b"".join(message.get("body", b"") for message in self.sent[1:]))

    async def _receive(self) -> Message:
        if self._incoming.empty():
            self.listened.set()
        return await self._incoming.get()

    async def _send(self, message: Message) -> None:
        self.sent.append(message)
        self._was_sent.set()
