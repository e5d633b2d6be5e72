"""A server on this machine that plays the Hugging Face hub, and the other host that has its large files."""

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "c0ffee" * 6 + "c0de"


class HubServer(ThreadingHTTPServer):
    """Serves `content` as every file of every repository, a large one: with a redirect that says its SHA-256.

    small: content of files that are sent as they are, by their names; None for one that is not there.
    stands_still_after: bytes of a file after which nothing more comes until goes_on.
    error_code: what the hub tells beside a status that is not 200.
    """

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.storage = f"http://localhost:{self.server_address[1]}/cdn"
        self.content = content
        self.digest = hashlib.sha256(content).hexdigest()
        self.small: dict[str, bytes | None] = {}
        self.status = 200
        self.error_code: str | None = None
        self.break_off_after: int | None = None
        self.stands_still_after: int | None = None
        self.stands_still, self.goes_on = threading.Event(), threading.Event()
        self.requests: list[tuple[str, str, dict[str, str]]] = []

    def gets(self) -> list[str | None]:
        """The ranges of the file that were asked for; None for all of it."""
        return [
            headers.get("range")
            for method, path, headers in self.requests
            if method == "GET" and path.startswith("/cdn/")
        ]


class _Handler(BaseHTTPRequestHandler):
    server: HubServer

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hub = self.server
        hub.requests.append((self.command, self.path, {name.lower(): value for name, value in self.headers.items()}))
        name = self.path.rpartition("/")[2]
        if hub.status != 200:
            self._refuse(hub.status, hub.error_code)
        elif name in hub.small:
            self._send_small(hub.small[name])
        elif not self.path.startswith("/cdn/"):
            linked = {"X-Linked-Etag": f'"{hub.digest}"', "X-Linked-Size": str(len(hub.content)), "Content-Length": "0"}
            self._head(302, {"Location": f"{hub.storage}{self.path}", "X-Repo-Commit": COMMIT, **linked})
        else:
            self._send_file()

    def _refuse(self, status: int, code: str | None) -> None:
        self._head(status, {"Content-Length": "0", **({} if code is None else {"X-Error-Code": code})})

    def _send_small(self, content: bytes | None) -> None:
        if content is None:
            self._refuse(404, "EntryNotFound")
            return
        etag = hashlib.sha1(content, usedforsecurity=False).hexdigest()
        self._head(200, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Content-Length": str(len(content))})
        if self.command == "GET":
            self.wfile.write(content)

    def _send_file(self) -> None:
        hub = self.server
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(wanted[1]) if wanted else 0
        body = hub.content[start:]
        ranged = {"Content-Range": f"bytes {start}-{len(hub.content) - 1}/{len(hub.content)}"} if wanted else {}
        self._head(206 if wanted else 200, {"Content-Length": str(len(body)), **ranged})
        if hub.break_off_after is not None:
            body, hub.break_off_after = body[: hub.break_off_after], None
            self.close_connection = True
        if hub.stands_still_after is not None:
            self.wfile.write(body[: hub.stands_still_after])
            self.close_connection = True
            hub.stands_still.set()
            hub.goes_on.wait(60)
            return
        self.wfile.write(body)

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@contextmanager
def serving(content: bytes) -> Iterator[HubServer]:
    """While inside, the hub answers."""
    with HubServer(content) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
