"""The clients in docs/clients.md run as they stand there, and keep the rules that the page gives."""

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import httpx
import pytest

from app.http.browser_headers import _ASKED, _SHOWN, allow_origins
from app.http.dispatcher import Application
from tests.pace import slowness_at_first

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
PATIENCE_S = 60 * slowness_at_first()
ADDRESS = "http://127.0.0.1:8000"
NODE = shutil.which("node")
ANSWER = b'{"model": {}, "predictions": [{"label": "Bag", "index": 8, "probability": 0.987}]}'
BAD_IMAGE = b'{"code": "bad_picture", "detail": "It is no picture."}'
BUSY = b'{"code": "queue_full", "detail": "There is no room."}'


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


class Service(BaseHTTPRequestHandler):
    """Answers requests as `refusals` say, then pictures as pictures; counts them."""

    refusals: ClassVar[list[tuple[int, dict[str, str]]]] = []
    bodies: ClassVar[list[bytes]] = []
    lock: ClassVar[threading.Lock] = threading.Lock()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.lock:
            self.bodies.append(body)
            status, headers = self.refusals.pop(0) if self.refusals else (200, {})
        if status == 200 and b"\xff\xd8\xff" not in body:
            status = 400
        content = {200: ANSWER, 400: BAD_IMAGE}.get(status, BUSY)
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content)), "Content-Type": "application/json"}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- http.server's name
        pass


Run = Callable[[str, str], subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Runs a client of a language against a service of the test."""
    monkeypatch.setattr(Service, "bodies", [])
    monkeypatch.setattr(Service, "refusals", [])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()

    def running(language: str, client: str) -> subprocess.CompletedProcess[str]:
        assert ADDRESS in client
        file = tmp_path / {"python": "client.py", "js": "client.mjs"}[language]
        file.write_text(client.replace(ADDRESS, f"http://127.0.0.1:{server.server_port}"), encoding="utf-8")
        program = sys.executable if language == "python" else str(NODE)
        environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        return subprocess.run(
            [program, str(file)],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    yield running
    server.shutdown()
    thread.join()
    server.server_close()


CLIENTS = [
    pytest.param("python", 0, id="python"),
    pytest.param("python", 1, id="python, asynchronous"),
    pytest.param("js", 0, id="javascript", marks=pytest.mark.skipif(NODE is None, reason="node is not installed")),
]
BUSY_FOR_A_MOMENT = [(429, {"Retry-After": "0"}), (503, {"Retry-After": "0"})]


def test_every_client_on_the_page_is_tried() -> None:
    assert {language: len(blocks(language)) for language in ("python", "js")} == {"python": 2, "js": 1}


@pytest.mark.parametrize(("language", "number"), CLIENTS)
def test_a_client_prints_labels_and_comes_again_where_the_service_is_busy(language: str, number: int, run: Run) -> None:
    Service.refusals.extend(BUSY_FOR_A_MOMENT)
    ended = run(language, blocks(language)[number])
    assert ended.returncode == 0, ended.stderr
    assert "Bag" in ended.stdout
    if number == 0:
        assert ended.stdout.splitlines() == ["Bag: 98.7%", "bad_picture: It is no picture."]
        assert len(Service.bodies) == 4
    else:
        assert len(Service.bodies) == 2 + len(list((ROOT / "examples").glob("*.jpg")))


@pytest.mark.parametrize(("language", "number"), CLIENTS)
def test_a_client_gives_up_after_a_few_times(language: str, number: int, run: Run) -> None:
    Service.refusals.extend([(503, {"Retry-After": "0"})] * 1000)
    ended = run(language, blocks(language)[number])
    assert ended.returncode != 0
    assert "503" in ended.stderr or "queue_full" in ended.stderr
    at_once = len(list((ROOT / "examples").glob("*.jpg"))) if number else 1  # the first that fails ends all
    assert 5 <= len(Service.bodies) <= 5 * at_once


def test_the_page_names_every_header_of_other_origins() -> None:
    named = {name.lower() for name in re.findall(r"`([A-Z][\w-]+)`", PAGE.split("## From a page")[1])}
    assert set(_ASKED) | set(_SHOWN) <= named


async def test_the_preflight_on_the_page_is_answered_as_it_says() -> None:
    application = Application()
    allow_origins(application, ["https://shop.example"])
    (asked,) = (block for block in blocks("sh") if "OPTIONS" in block)
    headers = dict(header.split(": ") for header in re.findall(r"-H '([^']+)'", asked))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url=ADDRESS) as http:
        allowed = await http.options("/classify", headers=headers)
        assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, "https://shop.example")
        refused = await http.options("/classify", headers={**headers, "Origin": "https://other.example"})
        assert (refused.status_code, refused.text) == (400, "Disallowed CORS origin")
