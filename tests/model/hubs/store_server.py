"""A server on this machine that plays Google's storage: it can resume, lie, break off and stand in for a proxy."""

from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler

from tests.local_server import LocalServer, QuietHandler, answering


class Store(LocalServer):
    """Serves `content` under every path; what it does besides is set by its attributes.

    lies: headers and content of every 206, whatever was asked for.
    breaks_off_after: of the next answers, after how many bytes each breaks off.
    """

    def __init__(self, content: bytes) -> None:
        super().__init__(_Handler)
        self.content = content
        self.etag = '"one"'
        self.headers: dict[str, str] = {}
        self.breaks_off_after: list[int] = []
        self.status = 200
        self.lies: tuple[dict[str, str], bytes] | None = None
        self.requests: list[tuple[str, str | None]] = []


class _Handler(QuietHandler, BaseHTTPRequestHandler):
    server: Store

    def do_GET(self) -> None:
        store = self.server
        wanted = self.headers.get("Range")
        if wanted is not None and store.lies is not None:
            store.requests.append((self.path, wanted))
            headers, body = store.lies
            self.send_head(206, {"Content-Length": str(len(body)), **headers})
            self.wfile.write(body)
            return
        store.requests.append((self.path, wanted))
        if store.status != 200:
            self.send_head(store.status, {"Content-Length": "0"})
            return
        start = 0
        if wanted is not None and self.headers.get("If-Range") == store.etag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(store.content):
                self.send_head(416, {"Content-Length": "0"})
                return
        body = store.content[start:]
        headers = {"ETag": store.etag, "Content-Length": str(len(body)), **store.headers}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(store.content) - 1}/{len(store.content)}"
        self.send_head(206 if start else 200, headers)
        if store.breaks_off_after:
            body = body[: store.breaks_off_after.pop(0)]
            self.close_connection = True
        self.wfile.write(body)

    def do_CONNECT(self) -> None:
        """What a proxy is asked for an https address; this one refuses."""
        self.server.requests.append((self.path, None))
        self.send_head(403, {"Content-Length": "0"})


def serving(content: bytes) -> AbstractContextManager[Store]:
    """While inside, the storage answers."""
    return answering(Store(content))
