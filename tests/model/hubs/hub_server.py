"""A server on this machine that plays the Hugging Face hub, and the other host that has its large files."""

import hashlib
import threading
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler

from tests.local_server import LocalServer, QuietHandler, answering

COMMIT = "c0ffee" * 6 + "c0de"


class HubServer(LocalServer):
    """Serves `content` as every file of every repository, a large one: with a redirect that says its SHA-256.

    small: content of files that are sent as they are, by their names; None for one that is not there.
    stands_still_after: bytes of a file after which nothing more comes until goes_on.
    error_code: what the hub tells beside a status that is not 200.
    """

    def __init__(self, content: bytes) -> None:
        super().__init__(_Handler)
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


class _Handler(QuietHandler, BaseHTTPRequestHandler):
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
            self.send_head(302, {"Location": f"{hub.storage}{self.path}", "X-Repo-Commit": COMMIT, **linked})
        else:
            self._send_file()

    def _refuse(self, status: int, code: str | None) -> None:
        self.send_head(status, {"Content-Length": "0", **({} if code is None else {"X-Error-Code": code})})

    def _send_small(self, content: bytes | None) -> None:
        if content is None:
            self._refuse(404, "EntryNotFound")
            return
        etag = hashlib.sha1(content, usedforsecurity=False).hexdigest()
        self.send_head(200, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Content-Length": str(len(content))})
        if self.command == "GET":
            self.wfile.write(content)

    def _send_file(self) -> None:
        hub = self.server
        wanted = self.wanted_from()
        start = wanted or 0
        body = hub.content[start:]
        is_part = wanted is not None
        ranged = {"Content-Range": f"bytes {start}-{len(hub.content) - 1}/{len(hub.content)}"} if is_part else {}
        self.send_head(206 if is_part else 200, {"Content-Length": str(len(body)), **ranged})
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


def serving(content: bytes) -> AbstractContextManager[HubServer]:
    """While inside, the hub answers."""
    return answering(HubServer(content))
