"""A server on this machine that plays Google's storage and the Hugging Face hub. Knows no models."""

import base64
import re
import time
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from benchmarks.pulling.files import COMMIT, File
from tests import local_server
from tests.local_server import LocalServer, QuietHandler

CHUNK = 1 << 20


class Hub(LocalServer):
    """bytes_per_s: how fast a file leaves; 0: as fast as it can. sent: bytes of files that have left."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(_Handler)
        self.storage = f"http://localhost:{self.server_address[1]}/cdn"  # another host, as the hub's is
        self.files: dict[str, File] = {}
        self.bytes_per_s = 0
        self.sent = 0


class _Handler(QuietHandler, BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(has_body=False)

    def do_GET(self) -> None:
        self._answer(has_body=True)

    def _answer(self, *, has_body: bool) -> None:
        asked = re.sub(f"/resolve/{COMMIT}/", "/resolve/main/", self.path)
        file = self.server.files.get(asked.removeprefix("/cdn"))
        if file is None:
            self.send_head(404, {"Content-Length": "0"})
        elif asked.endswith(".safetensors") and not asked.startswith("/cdn"):
            linked = {"X-Linked-Etag": f'"{file.sha256}"', "X-Linked-Size": str(file.path.stat().st_size)}
            place = {"Location": f"{self.server.storage}{asked}", "X-Repo-Commit": COMMIT}
            self.send_head(302, {**place, "Content-Length": "0", **linked})
        else:
            self._send(file, has_body=has_body)

    def _send(self, file: File, *, has_body: bool) -> None:
        start, size = self.wanted_from() or 0, file.path.stat().st_size
        headers = {"ETag": f'"{file.md5.hex()}"', "x-goog-hash": f"md5={base64.b64encode(file.md5).decode()}"}
        self.send_head(206 if start else 200, {**headers, "X-Repo-Commit": COMMIT, "Content-Length": str(size - start)})
        if has_body:
            self._send_from(file.path, start)

    def _send_from(self, path: Path, start: int) -> None:
        with path.open("rb") as file:
            file.seek(start)
            while chunk := file.read(CHUNK):
                try:
                    self.wfile.write(chunk)
                except OSError:  # the other side was killed
                    self.close_connection = True
                    return
                self.server.sent += len(chunk)
                if self.server.bytes_per_s:
                    time.sleep(len(chunk) / self.server.bytes_per_s)


def answering() -> AbstractContextManager[Hub]:
    """While inside, the hub answers."""
    return local_server.answering(Hub())
