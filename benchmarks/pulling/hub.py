"""A server on this machine that plays Google's storage and the Hugging Face hub. Knows no models."""

import base64
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from benchmarks.pulling.files import COMMIT, File

CHUNK = 1 << 20


class Hub(ThreadingHTTPServer):
    """bytes_per_s: how fast a file leaves; 0: as fast as it can. sent: bytes of files that have left."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.storage = f"http://localhost:{self.server_address[1]}/cdn"  # another host, as the hub's is
        self.files: dict[str, File] = {}
        self.bytes_per_s = 0
        self.sent = 0


class _Handler(BaseHTTPRequestHandler):
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
            self._head(404, {"Content-Length": "0"})
        elif asked.endswith(".safetensors") and not asked.startswith("/cdn"):
            linked = {"X-Linked-Etag": f'"{file.sha256}"', "X-Linked-Size": str(file.path.stat().st_size)}
            place = {"Location": f"{self.server.storage}{asked}", "X-Repo-Commit": COMMIT}
            self._head(302, {**place, "Content-Length": "0", **linked})
        else:
            self._send(file, has_body=has_body)

    def _send(self, file: File, *, has_body: bool) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start, size = int(wanted[1]) if wanted else 0, file.path.stat().st_size
        headers = {"ETag": f'"{file.md5.hex()}"', "x-goog-hash": f"md5={base64.b64encode(file.md5).decode()}"}
        self._head(206 if start else 200, {**headers, "X-Repo-Commit": COMMIT, "Content-Length": str(size - start)})
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

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@contextmanager
def answering() -> Iterator[Hub]:
    """While inside, the hub answers."""
    with Hub() as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()
