"""The whole service in processes of its own: sockets, signals, workers, exit codes."""

import json
import logging
import os
import signal
import socket
import threading
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from colour_bundle import BLUE, GREEN, RED, colour_spec, picture
from fakes import FakeSession, engine_of, means_of_colours, samples_of
from fastapi import FastAPI
from servers import PATIENCE_S, SERVING, Server, connect, free_port, head_of_upload, read_until
from uvicorn.supervisors import multiprocess as supervisors

from app import server
from app.errors import StartError
from app.main import create_app
from app.metrics import MULTIPROCESS_VARIABLE
from app.server import Workers
from app.settings import Settings


def served(bundle: Path, *flags: str) -> Server:
    port = free_port()
    return Server("-m", "app.cli", "serve", "--port", str(port), "--bundle", str(bundle), *flags, port=port)


@pytest.fixture
def signals_put_back() -> Iterator[None]:
    handlers = {number: signal.getsignal(number) for number in supervisors.SIGNALS}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


# --- one process ---


def test_a_server_is_ready_classifies_and_stops_with_0(bundle: Path) -> None:
    with served(bundle, "--lanes", "1") as running:
        running.wait_until_serving()
        assert json.loads(running.get("/health/ready"))["status"] == "ready"
        assert running.classify(picture(BLUE))["predictions"][0]["label"] == "blue"
        running.signal(signal.SIGTERM)
        assert running.exit_code() == 0
        assert not [line for line in running.lines if "Traceback" in line or "Warning" in line]
        assert [line for line in running.lines if "mixer.access POST /classify 200 " in line]


def test_a_request_whose_body_is_on_its_way_at_sigterm_is_answered(bundle: Path) -> None:
    payload = picture(GREEN, size=(64, 64))
    with served(bundle, "--lanes", "1", "--drain-timeout-s", "20") as running:
        running.wait_until_serving()
        with running.connect() as connection:
            connection.sendall(head_of_upload(len(payload)))
            assert read_until(connection, b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
            connection.sendall(payload[:50])
            running.signal(signal.SIGTERM)
            running.wait_for("Shutting down")
            connection.sendall(payload[50:])
            answer = read_until(connection, b"]}")
        assert running.exit_code() == 0
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        assert b'"label":"green"' in answer


_STUCK = """
import sys, threading
from app import logs, server
from app.engine import Engine, EngineOptions, open_engine
from app.main import create_app, engine_options
from app.settings import load

class Stuck(Engine):
    def run(self, patches):
        print("the run has begun", file=sys.stderr, flush=True)
        threading.Event().wait()

settings = load(sys.argv[1:])
engine = open_engine(engine_options(settings))
engine.__class__ = Stuck
engine.spec = engine.spec.model_copy(update={"canary": None})
logs.configure("text", "info")
sys.exit(server.serve(create_app(settings, engine), settings))
"""


def test_a_run_that_never_ends_gets_503_when_the_drain_ends_and_does_not_keep_the_process(bundle: Path) -> None:
    port = free_port()
    flags = ["--port", str(port), "--bundle", str(bundle), "--lanes", "1", "--drain-timeout-s", "0.2"]
    payload = picture(BLUE)
    with Server("-c", _STUCK, *flags, port=port) as running:
        running.wait_until_serving()
        with running.connect() as connection:
            connection.sendall(head_of_upload(len(payload)) + payload)
            running.wait_for("the run has begun")
            running.signal(signal.SIGTERM)
            answer = read_until(connection, b"}")
        assert b"HTTP/1.1 503 " in answer
        assert b"The service shut down before an answer; expected a request to another instance." in answer
        assert running.exit_code() == 0


class Listening(logging.Handler):
    """Says when uvicorn is about to listen."""

    def __init__(self) -> None:
        super().__init__()
        self.heard = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if SERVING in record.getMessage():
            self.heard.set()


@pytest.mark.usefixtures("signals_put_back")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_signal_ends_serve_as_a_success(number: signal.Signals, caplog: pytest.LogCaptureFixture) -> None:
    spec = colour_spec()
    engine = engine_of(FakeSession(spec, means_of_colours), spec)
    settings = Settings(port=free_port(), drain_timeout_s=5)
    listening, statuses = Listening(), []

    def visit() -> None:
        if listening.heard.wait(PATIENCE_S):
            connect(settings.port).close()
            with urllib.request.urlopen(f"http://127.0.0.1:{settings.port}/health/ready", timeout=PATIENCE_S) as answer:
                statuses.append(answer.status)
        os.kill(os.getpid(), number)

    log = logging.getLogger("uvicorn.error")
    log.addHandler(listening)
    visitor = threading.Thread(target=visit)
    visitor.start()
    try:
        with caplog.at_level(logging.INFO, "uvicorn.error"), pytest.raises(SystemExit) as ended:
            raise SystemExit(server.serve(create_app(settings, engine), settings))
    finally:
        log.removeHandler(listening)
        visitor.join(PATIENCE_S)
    assert ended.value.code == 0
    assert statuses == [200]


@pytest.mark.usefixtures("signals_put_back")
def test_an_application_that_cannot_start_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    listener = socket.socket()
    monkeypatch.setattr(server, "_listen", lambda *_: listener)

    @asynccontextmanager
    async def failing(_: FastAPI) -> AsyncIterator[None]:
        raise ZeroDivisionError
        yield

    with listener, pytest.raises(SystemExit) as ended:
        raise SystemExit(server.serve(FastAPI(lifespan=failing), Settings(port=free_port())))
    assert ended.value.code not in (None, 0)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_an_address_that_is_taken_is_refused_in_one_line(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as taken:
        try:
            taken.bind((host, 0))
        except OSError:
            pytest.skip(f"this machine has no {host}")
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StartError) as refused:
            server._listen(host, port)
    assert str(refused.value) == (
        f"MIXER_HOST is {host} and MIXER_PORT {port}, which cannot be listened on: Address already in use."
    )


def test_a_host_that_is_not_of_this_machine_is_refused() -> None:
    with pytest.raises(StartError, match=r"^MIXER_HOST is 192\.0\.2\.1 and MIXER_PORT \d+, which cannot"):
        server._listen("192.0.2.1", free_port())


# --- several processes ---


def test_two_workers_share_the_port_and_their_metrics_and_a_killed_one_is_replaced(bundle: Path) -> None:
    with served(bundle, "--lanes", "1", "--workers", "2") as running:
        pids = running.wait_for(r"Started server process \[(\d+)\]", 2)
        running.wait_until_serving(workers=2)
        connections = [running.connect() for _ in range(16)]
        request = head_of_upload(len(picture(RED))).replace(b"Expect: 100-continue\r\n", b"") + picture(RED)
        for connection in connections:
            connection.sendall(request)
        for connection in connections:
            assert read_until(connection, b"]}").startswith(b"HTTP/1.1 200 ")
            connection.close()
        before = samples_of(running.get("/metrics"))
        assert before['mixer_images_total{outcome="classified"}'] == 16
        assert before['mixer_predictions_total{label="red"}'] == 16
        info = 'mixer_engine_info{model="colours",precision="fp32",provider="cpu",version="7"}'
        assert before[info] == 1

        os.kill(int(pids[0]), signal.SIGKILL)
        running.wait_for(rf"worker {pids[0]} was replaced")
        running.wait_until_serving(workers=3)
        assert running.classify(picture(GREEN))["predictions"][0]["label"] == "green"
        after = samples_of(running.get("/metrics"))
        assert after['mixer_images_total{outcome="classified"}'] == 17  # what the dead worker did still counts
        assert after["mixer_in_flight"] == 0
        assert after[info] == 1

        running.signal(signal.SIGTERM)
        assert running.exit_code() == 0
        assert not [line for line in running.lines if "Traceback" in line]


class FakeProcess:
    """A worker process of uvicorn's supervisor."""

    last_pid = 100

    def __init__(self, *_: Any, alive: bool = True) -> None:
        FakeProcess.last_pid += 1
        self.pid = FakeProcess.last_pid
        self.alive = alive
        self.exitcode: int | None = None
        self.calls: list[str] = []

    def is_alive(self, timeout: float) -> bool:
        return self.alive

    def kill(self) -> None:
        self.calls.append("kill")

    def join(self) -> None:
        self.calls.append("join")

    def start(self) -> None:
        self.calls.append("start")


@pytest.mark.usefixtures("signals_put_back")
def test_the_gauges_of_a_dead_worker_no_longer_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(MULTIPROCESS_VARIABLE, str(tmp_path))
    monkeypatch.setattr(supervisors, "Process", FakeProcess)
    workers = Workers(uvicorn.Config("unused:app"), sockets=[])
    dead, alive = FakeProcess(alive=False), FakeProcess()
    workers.processes = [dead, alive]  # type: ignore[list-item]
    gauges = [tmp_path / f"gauge_livesum_{process.pid}.db" for process in (dead, alive)]
    counters = [tmp_path / f"counter_{process.pid}.db" for process in (dead, alive)]
    for file in gauges + counters:
        file.touch()
    workers.keep_subprocess_alive()
    assert dead.calls == ["kill", "join"]
    assert workers.processes[1] is alive  # type: ignore[comparison-overlap]
    assert [file.exists() for file in gauges] == [False, True]
    assert [file.exists() for file in counters] == [True, True]
    assert f"worker {dead.pid} was replaced" in caplog.messages


@pytest.mark.parametrize(
    ("exit_codes", "code"),
    [((0, 0), 0), ((-signal.SIGTERM, 0), 0), ((-signal.SIGINT, -signal.SIGTERM), 0), ((0, 3), 3), ((-9, None), 9)],
)
def test_the_exit_code_of_several_workers_is_the_worst_of_theirs(
    exit_codes: tuple[int | None, ...], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders: list[Path] = []

    class Ended:
        """Workers that have all ended."""

        def __init__(self, config: uvicorn.Config, sockets: list[socket.socket]) -> None:
            self.processes = [FakeProcess() for _ in exit_codes]
            self._sockets = sockets

        def run(self) -> None:
            folders.append(Path(os.environ[MULTIPROCESS_VARIABLE]))
            assert folders[0].is_dir()
            for process, exit_code in zip(self.processes, exit_codes, strict=True):
                process.exitcode = exit_code
            for listener in self._sockets:
                listener.close()

    monkeypatch.setattr(server, "Workers", Ended)
    monkeypatch.setenv(MULTIPROCESS_VARIABLE, "")
    settings = Settings(workers=2, port=free_port())
    before = {id(thread) for thread in threading.enumerate()}
    assert server.serve(lambda: pytest.fail("No worker was to be made here."), settings) == code
    assert {id(thread) for thread in threading.enumerate()} == before
    assert not folders[0].exists()
