"""`mixer reload` against a service that answers as told."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import ClassVar

import pytest
from typer.testing import CliRunner, Result

from app.errors import BadSettings
from app.settings import Settings
from cli.main import app
from cli.reload import ReloadFailed, _own_url
from tests.app.servers import free_port

KEY = "an-operators-key-of-length"
CHANGES = ["num_classes 3 -> 4", "labels: 1 added ('puma')"]


def followed(*changes: str, outcome: str = "swapped") -> bytes:
    model = {"name": "colours", "outcome": outcome, "reason": None, "changes": changes}
    return json.dumps({"workers": 2, "models": [model]}).encode()


class Service(BaseHTTPRequestHandler):
    """Answers every POST with `answer`, and remembers what it was asked."""

    answer: ClassVar[tuple[int, bytes]] = (200, followed(*CHANGES))
    asked: ClassVar[list[tuple[str, str | None]]] = []

    def do_POST(self) -> None:
        self.asked.append((self.path, self.headers["X-API-Key"]))
        status, body = self.answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- http.server's name
        pass


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int, bytes], str]]:
    """Its address, once it is told what to answer."""
    monkeypatch.setattr(Service, "asked", [])
    server = HTTPServer(("127.0.0.1", 0), Service)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()

    def answering(status: int, body: bytes) -> str:
        monkeypatch.setattr(Service, "answer", (status, body))
        return f"http://127.0.0.1:{server.server_port}"

    yield answering
    server.shutdown()
    thread.join()
    server.server_close()


NO_KEY = (
    "No key for operators; expected in MIXER_ADMIN_KEY one of the keys in the service's MIXER_ADMIN_KEYS or "
    "MIXER_ADMIN_KEYS_FILE."
)


def run(*arguments: str, key: str = KEY) -> Result:
    return CliRunner().invoke(app, ["reload", *arguments], env={"MIXER_ADMIN_KEY": key, "http_proxy": "http://no:1"})


@contextmanager
def failing(kind: type[Exception], words: str) -> Iterator[None]:
    with pytest.raises(kind, match=words):
        yield


def test_it_says_what_became_of_every_bundle_and_what_is_another_in_it(service: Callable[[int, bytes], str]) -> None:
    url = service(200, followed(*CHANGES))
    finished = run("--url", f"{url}/")
    assert finished.exit_code == 0
    assert finished.stdout.splitlines() == [
        "colours: swapped",
        "  num_classes 3 -> 4",
        "  labels: 1 added ('puma')",
        "2 worker(s) serve them.",
    ]
    assert Service.asked == [("/admin/reload", KEY)]


def test_of_one_that_has_only_other_weights_it_says_what_is_as_it_was(service: Callable[[int, bytes], str]) -> None:
    finished = run("--url", service(200, followed()))
    assert finished.stdout.splitlines()[:2] == [
        "colours: swapped",
        "  its labels, sizes and temperature are as they were",
    ]


def test_where_nothing_has_changed_it_says_so(service: Callable[[int, bytes], str]) -> None:
    finished = run("--url", service(200, followed(outcome="unchanged")))
    assert finished.stdout.splitlines() == ["colours: unchanged", "Nothing has changed.", "2 worker(s) serve them."]


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (409, b'{"detail": "colours was refused: It is no graph."}', "colours was refused: It is no graph."),
        (404, b"<html>", "The answer is 404 Not Found; expected 200, or a problem that says why not."),
        (500, b"[]", "The answer is 500 Internal Server Error; expected 200, or a problem that says why not."),
        (200, b"<html>", "does not answer as this service does: "),
    ],
)
def test_a_refusal_is_one_line_and_exit_code_1(
    status: int, body: bytes, words: str, service: Callable[[int, bytes], str]
) -> None:
    finished = run("--url", service(status, body))
    assert isinstance(finished.exception, ReloadFailed)
    assert finished.exception.exit_code == 1
    assert words in str(finished.exception)
    assert "\n" not in str(finished.exception)


def test_where_nothing_listens_it_says_so() -> None:
    finished = run("--url", f"http://127.0.0.1:{free_port()}")
    assert isinstance(finished.exception, ReloadFailed)


@pytest.mark.parametrize(
    ("arguments", "key", "words"),
    [
        ([], "", NO_KEY),
        ([], " ", NO_KEY),
        (["--url", "file:///etc"], KEY, "--url is 'file:///etc'; expected http://HOST:PORT or https://HOST:PORT."),
    ],
)
def test_what_it_cannot_ask_with_is_refused(arguments: list[str], key: str, words: str) -> None:
    finished = run(*arguments, key=key)
    assert isinstance(finished.exception, BadSettings)
    assert str(finished.exception) == words


@pytest.mark.parametrize(
    ("options", "url"),
    [
        ({}, "http://127.0.0.1:8000"),
        ({"host": "0.0.0.0", "port": 9000}, "http://127.0.0.1:9000"),
        ({"host": "::"}, "http://[::1]:8000"),
        ({"host": "10.0.0.1", "admin_port": 9001}, "http://127.0.0.1:9001"),
        ({"tls_cert_file": "cert.pem"}, "https://127.0.0.1:8000"),
    ],
)
def test_without_a_url_it_asks_where_the_settings_have_the_service(options: dict[str, object], url: str) -> None:
    assert _own_url(Settings(**options)) == url  # type: ignore[arg-type]
