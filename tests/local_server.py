"""What the servers on this machine that play hubs and storage have in common. Knows nothing of what they serve."""

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar


class LocalServer(ThreadingHTTPServer):
    """On a free port, with its address as `url`."""

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class QuietHandler(BaseHTTPRequestHandler):
    """Logs nothing, and has the steps of an answer."""

    def send_head(self, status: int, headers: Mapping[str, str]) -> None:
        """Status and headers, and no more of them."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def wanted_from(self) -> int | None:
        """The first byte of a range without an end; None where none is asked for."""
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        return int(wanted[1]) if wanted else None

    def log_message(self, *_: Any) -> None:
        """Quiet."""


ServerT = TypeVar("ServerT", bound=LocalServer)


@contextmanager
def answering(server: ServerT) -> Iterator[ServerT]:
    """While inside, it answers."""
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
