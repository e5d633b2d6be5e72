"""A server on this machine that plays Google's storage: it can resume, lie, break off and stand in for a proxy."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Store(ThreadingHTTPServer):
    """Serves `content` under every path; what it does besides is set by its attributes.

    lies: headers and content of every 206, whatever was asked for.
    breaks_off_after: of the next answers, after how many bytes each breaks off.
    """

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.content = content
        self.etag = '"one"'
        self.headers: dict[str, str] = {}
        self.breaks_off_after: list[int] = []
        self.status = 200
        self.lies: tuple[dict[str, str], bytes] | None = None
        self.requests: list[tuple[str, str | None]] = []


class _Handler(BaseHTTPRequestHandler):
    server: Store

    def do_GET(self) -> None:
        store = self.server
        wanted = self.headers.get("Range")
        if wanted is not None and store.lies is not None:
            store.requests.append((self.path, wanted))
            headers, body = store.lies
            self._head(206, {"Content-Length": str(len(body)), **headers})
            self.wfile.write(body)
            return
        store.requests.append((self.path, wanted))
        if store.status != 200:
            self._head(store.status, {"Content-Length": "0"})
            return
        start = 0
        if wanted is not None and self.headers.get("If-Range") == store.etag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(store.content):
                self._head(416, {"Content-Length": "0"})
                return
        body = store.content[start:]
        headers = {"ETag": store.etag, "Content-Length": str(len(body)), **store.headers}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(store.content) - 1}/{len(store.content)}"
        self._head(206 if start else 200, headers)
        if store.breaks_off_after:
            body = body[: store.breaks_off_after.pop(0)]
            self.close_connection = True
        self.wfile.write(body)

    def do_CONNECT(self) -> None:
        """What a proxy is asked for an https address; this one refuses."""
        self.server.requests.append((self.path, None))
        self._head(403, {"Content-Length": "0"})

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@contextmanager
def serving(content: bytes) -> Iterator[Store]:
    """While inside, the storage answers."""
    with Store(content) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
