"""The health check asks where the service listens, as the service itself reads that, and says why it is not ready."""

import json
import re
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from app.settings import Settings
from cli.health import failure_of, main
from tests.app.certificates import certificate
from tests.app.servers import PATIENCE_S, ROOT, clean_environment, free_port

NOT_READY = json.dumps({"detail": "The service is draining."}).encode()


class Service(BaseHTTPRequestHandler):
    """Answers every GET with `answer`, and remembers its path."""

    answer: ClassVar[tuple[int, bytes]] = (200, b"{}")
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        status, body = self.answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- http.server's name
        pass


class Six(HTTPServer):
    address_family = socket.AF_INET6


Listen = Callable[..., int]


@pytest.fixture
def listen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Listen]:
    """The port of a service that listens as told."""
    monkeypatch.setattr(Service, "asked", [])
    servers: list[tuple[HTTPServer, threading.Thread]] = []

    def listening(
        host: str = "127.0.0.1",
        answer: tuple[int, bytes] = (200, b"{}"),
        context: ssl.SSLContext | None = None,
    ) -> int:
        monkeypatch.setattr(Service, "answer", answer)
        server = (Six if ":" in host else HTTPServer)((host, 0), Service)
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        servers.append((server, thread))
        return int(server.server_address[1])

    yield listening
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def nobody(tmp_path: Path) -> Path:
    """The command line of a first process that is no service."""
    return first_process(tmp_path, "/sbin/init")


def first_process(folder: Path, *words: str) -> Path:
    path = folder / "cmdline"
    path.write_bytes("".join(f"{word}\0" for word in words).encode())
    return path


def test_a_service_that_is_ready(listen: Listen, nobody: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setenv("MIXER_PORT", str(listen()))
    assert main(nobody) == 0
    assert capsys.readouterr().out == "ready\n"
    assert Service.asked == ["/health/ready"]


@pytest.mark.parametrize("written", [' "{}" ', "'{}'", " {}\n"])
def test_variables_are_read_as_the_service_reads_them(
    written: str, listen: Listen, nobody: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIXER_PORT", written.format(listen()))
    assert main(nobody) == 0


@pytest.mark.parametrize("port", ["tcp://10.0.0.1:80", "", '""'])
def test_a_variable_that_the_service_does_not_read_leaves_the_default(
    port: str, nobody: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setenv("MIXER_PORT", port)
    monkeypatch.setenv("MIXER_HOST", "127.0.0.255")  # where nobody listens
    assert main(nobody) == 1
    assert capsys.readouterr().out.startswith("http://127.0.0.255:8000 does not answer as this service does: ")


@pytest.mark.parametrize(("host", "listens"), [("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("::1", "::1")])
def test_it_asks_on_this_machine(host: str, listens: str, listen: Listen) -> None:
    try:
        port = listen(listens)
    except OSError:
        pytest.skip(f"{listens} is no address of this machine")
    assert failure_of(Settings(host=host, port=port)) is None


@pytest.mark.process
def test_it_asks_in_tls_where_the_service_speaks_it_whatever_name_is_certified(listen: Listen, tmp_path: Path) -> None:
    shown = certificate(tmp_path, "shop.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(shown.cert, shown.key)
    port = listen(context=context)
    settings = Settings(port=port, tls_cert_file=shown.cert, tls_key_file=shown.key)
    assert failure_of(settings) is None
    failure = failure_of(Settings(port=port))
    assert failure is not None
    assert failure.startswith(f"http://127.0.0.1:{port} does not answer as this service does: ")


def test_a_port_for_operators_changes_nothing(listen: Listen) -> None:
    assert failure_of(Settings(port=listen(), admin_port=free_port())) is None


@pytest.mark.parametrize("name", ["http_proxy", "HTTPS_PROXY", "ALL_PROXY"])
def test_no_proxy_is_asked(name: str, listen: Listen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "http://127.0.0.255:1")
    assert failure_of(Settings(port=listen())) is None


@pytest.mark.parametrize(
    "words",
    [
        ("/opt/mixer/bin/python", "/opt/mixer/bin/mixer", "serve", "--port", "{}"),
        ("/sbin/docker-init", "--", "mixer", "serve", "--port={}"),
        ("/opt/mixer/bin/mixer", "serve", "timm:mixer_b16_224.goog_in21k", "--port", "{}"),
    ],
)
def test_flags_of_the_first_process_count(words: tuple[str, ...], listen: Listen, tmp_path: Path) -> None:
    port = listen()
    assert main(first_process(tmp_path, *(word.format(port) for word in words))) == 0
    assert Service.asked == ["/health/ready"]


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (503, NOT_READY, "The service is draining."),
        (503, b"Service Unavailable", "/health/ready answers 503; expected 200."),
        (503, b"[]", "/health/ready answers 503; expected 200."),
        (404, b"{}", "/health/ready answers 404; expected 200."),
        (307, b"", "/health/ready answers 307; expected 200."),
    ],
)
def test_whatever_is_no_200_is_not_ready_and_says_why(status: int, body: bytes, words: str, listen: Listen) -> None:
    assert failure_of(Settings(port=listen(answer=(status, body)))) == words


def test_impossible_settings_are_not_ready_either(nobody: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setenv("MIXER_PORT", "many")
    assert main(nobody) == 1
    assert capsys.readouterr().out.startswith("MIXER_PORT is 'many'")


def test_where_the_first_process_cannot_be_read_the_variables_count(
    listen: Listen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIXER_PORT", str(listen()))
    assert main(tmp_path / "nothing") == 0


@pytest.mark.process
def test_the_image_asks_so_and_it_loads_nothing_that_takes_long(listen: Listen) -> None:
    asked = re.search(r"^HEALTHCHECK .*CMD (\[.*\])$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert asked is not None
    program, *arguments = json.loads(asked[1])
    assert program == "mixer"
    command = [sys.executable, "-X", "importtime", "-m", "cli", *arguments]
    environment = clean_environment(MIXER_PORT=str(listen()))
    ended = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert (ended.returncode, ended.stdout) == (0, "ready\n"), ended.stderr
    loaded = {line.rpartition("|")[2].strip() for line in ended.stderr.splitlines()}
    assert "pydantic" in loaded
    assert not loaded & {"torch", "onnxruntime", "numpy", "PIL", "fastapi", "typer", "rich", "uvicorn"}
