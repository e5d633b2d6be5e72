"""examples/classify.mjs, in node: labels, waiting as it is told, and giving up in time. The service is a stand-in."""

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.app.servers import PATIENCE_S, ROOT
from tests.mixer_client.stand_in import CLASSIFIED

NODE = shutil.which("node")
pytestmark = [pytest.mark.process, pytest.mark.skipif(NODE is None, reason="node is not installed")]

PICTURE = "examples/pants.jpg"
BUSY = {"code": "queue_full", "detail": "There is no room."}
Refusal = tuple[int, str | None]


class _Service(ThreadingHTTPServer):
    """Refuses requests as `refusals` say, and classifies all others; `asked` has their bodies and headers."""

    def __init__(self, refusals: list[Refusal]) -> None:
        super().__init__(("127.0.0.1", 0), _Answering)
        self.refusals = refusals
        self.asked: list[tuple[bytes, dict[str, str]]] = []


class _Answering(BaseHTTPRequestHandler):
    server: _Service

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append((body, dict(self.headers)))
        status, after = self.server.refusals.pop(0) if self.server.refusals else (200, None)
        content = json.dumps(CLASSIFIED if status == 200 else BUSY).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        if after is not None:
            self.send_header("Retry-After", after)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- http.server's name
        pass


@contextmanager
def service(*refusals: Refusal) -> Iterator[_Service]:
    server = _Service(list(refusals))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def run(server: _Service, *files: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    environment["SERVICE_URL"] = f"http://127.0.0.1:{server.server_port}"
    command = [str(NODE), "examples/classify.mjs", *files]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )


def test_it_prints_the_label_of_each_file() -> None:
    with service() as server:
        ended = run(server, PICTURE, PICTURE)
    assert ended.stdout.splitlines() == [f"{PICTURE}: red 90.0%"] * 2, ended.stderr
    body, headers = server.asked[0]
    assert body == (ROOT / PICTURE).read_bytes()
    assert 0 < int(headers["X-Request-Timeout-Ms"]) <= 10_000


def test_without_a_file_it_says_how_it_is_used() -> None:
    with service() as server:
        ended = run(server)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "node examples/classify.mjs FILE ..." in ended.stderr


def test_it_comes_again_where_the_service_is_busy_with_less_time_left() -> None:
    with service((429, "0.1"), (503, "0")) as server:
        ended = run(server, PICTURE)
    assert ended.stdout == f"{PICTURE}: red 90.0%\n", ended.stderr
    left = [int(headers["X-Request-Timeout-Ms"]) for _, headers in server.asked]
    assert len(left) == 3
    assert left[0] - left[1] >= 100


@pytest.mark.parametrize("refusal", [(429, "60"), (400, None), (500, "0")])
def test_it_ends_at_once_where_waiting_is_of_no_use(refusal: Refusal) -> None:
    with service(*[refusal] * 9) as server:
        ended = run(server, PICTURE)
    assert ended.returncode == 1
    assert "queue_full: There is no room." in ended.stderr
    assert len(server.asked) == 1
