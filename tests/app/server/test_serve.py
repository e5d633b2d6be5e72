"""The whole service in processes of its own: sockets, signals, workers, exit codes."""

import asyncio
import errno
import fcntl
import json
import logging
import os
import signal
import socket
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from fastapi import FastAPI

from app.errors import StartError
from app.main import create_service
from app.server import serve, uvicorn_server
from app.server.gate import Gate
from app.server.uvicorn_server import Service
from app.settings import Settings
from app.system.signals import STOPPING
from tests.app.color_bundle import BLUE, GREEN, RED, color_spec, image
from tests.app.fakes import FakeSession, WatchedMetrics, engine_of, means_of_colors, samples_of
from tests.app.servers import (
    PATIENCE_S,
    SERVING,
    STARTED,
    Server,
    altered,
    connect,
    free_port,
    head_of_upload,
    owners,
    read_until,
    until,
)
from tests.pace import is_within

READY = b"GET /health/ready HTTP/1.1\r\nHost: service\r\n\r\n"
METRICS = b"GET /metrics HTTP/1.1\r\nHost: service\r\n\r\n"


def served(bundle: Path, *flags: str) -> Server:
    port = free_port()
    return Server("-m", "cli", "serve", "--port", str(port), "--bundle", str(bundle), *flags, port=port)


def request_of(payload: bytes) -> bytes:
    """A picture whose sender does not wait to be asked for it."""
    return head_of_upload(len(payload)).replace(b"Expect: 100-continue\r\n", b"") + payload


def ask_on(connection: socket.socket, request: bytes, last: bytes = b"]}") -> bytes:
    """The answer, up to its `last` bytes."""
    connection.sendall(request)
    return read_until(connection, last)


def idle_samples(running: Server) -> dict[str, float]:
    """The metrics at a moment without a picture inside: now and then there is a canary."""
    seen: list[dict[str, float]] = []

    def nothing_is_inside() -> bool:
        seen.append(samples_of(running.get("/metrics")))
        return seen[-1]["mixer_in_flight"] == 0

    until(nothing_is_inside)
    return seen[-1]


@pytest.fixture
def signals_put_back() -> Iterator[None]:
    handlers = {number: signal.getsignal(number) for number in STOPPING}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.process
@pytest.mark.parametrize(("workers", "count"), [("1", 1), ("2", 2)])
def test_every_line_of_a_start_is_json_and_says_which_worker_wrote_it(workers: str, count: int, bundle: Path) -> None:
    with served(bundle, "--workers", workers, "--log-format", "json") as running:
        running.wait_until_serving(count)
        lines = [json.loads(line) for line in running.lines]
    assert not any("color_message" in line for line in lines)
    started = {line["worker"]: line for line in lines if "Started server process" in line["message"]}
    assert set(started) == set(range(count))
    for number, line in started.items():
        assert line["message"] == f"Started server process [{line['pid']}]"
        assert {one["pid"] for one in lines if one["worker"] == number} == {line["pid"]}


@pytest.mark.process
@pytest.mark.parametrize(("workers", "said"), [("1", "1 worker"), ("2", "2 workers")])
def test_one_last_line_says_that_it_is_ready_and_where_and_how(workers: str, said: str, bundle: Path) -> None:
    with served(bundle, "--workers", workers) as running:
        url = f"http://127.0.0.1:{running.port}"
        running.wait_for(
            rf"mixer.server ready on {url}: colours 7 in fp32; {said}; no API key is needed; no CORS; "
            "protocols huggingface, kserve, oip, [a-z, ]+, vertex; no gRPC; "
        )
        running.classify(image(BLUE))
        if workers == "2":
            for pid in running.wait_for(STARTED, 2):
                os.kill(int(pid), signal.SIGKILL)
            running.wait_until_serving(4)
            running.classify(image(BLUE))
        running.signal(signal.SIGTERM)
        assert running.exit_code() == 0
        (ready,) = [line for line in running.lines if " ready on " in line]
        assert ready.endswith(f"; documentation: {url}/docs\n")
        assert not [line for line in running.lines[: running.lines.index(ready)] if "mixer.access" in line]


# --- one process ---


@pytest.mark.process
def test_a_server_is_ready_classifies_and_stops_with_0(bundle: Path) -> None:
    with served(bundle, "--workers", "1") as running:
        running.wait_until_serving()
        assert json.loads(running.get("/health/ready"))["status"] == "ready"
        assert running.classify(image(BLUE))["predictions"][0]["label"] == "blue"
        assert samples_of(running.get("/metrics"))["mixer_connections"] >= 1
        running.signal(signal.SIGTERM)
        assert running.exit_code() == 0
        assert not [line for line in running.lines if "Traceback" in line or "Warning" in line]
        assert [line for line in running.lines if "mixer.access POST /classify 200 " in line]


@pytest.mark.process
def test_a_request_whose_body_is_on_its_way_at_sigterm_is_answered(bundle: Path) -> None:
    payload = image(GREEN, size=(64, 64))
    with served(bundle, "--workers", "1", "--drain-timeout-s", "20") as running:
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


@pytest.mark.process
@pytest.mark.parametrize("workers", ["1", "2"])
def test_before_a_delayed_drain_clients_are_answered_and_asked_to_go(workers: str, bundle: Path) -> None:
    with served(bundle, "--workers", workers, "--drain-delay-s", "600") as running:
        running.wait_until_serving(int(workers))
        with running.connect() as kept:
            assert not asks_to_go(ask_on(kept, request_of(image(RED))))
            running.signal(signal.SIGTERM)
            running.wait_for("clients are asked to go elsewhere", int(workers))
            until(lambda: asks_to_go(ask_on(kept, request_of(image(GREEN)))))
            assert kept.recv(1) == b""
        with running.connect() as late:
            assert ask_on(late, READY, b"}").startswith(b"HTTP/1.1 503 ")
        running.signal(signal.SIGINT)  # a second one, of another kind, does not wait
        assert running.exit_code() == 0


@pytest.mark.process
def test_a_delayed_drain_comes_by_itself(bundle: Path) -> None:
    with served(bundle, "--workers", "2", "--drain-delay-s", "0.2") as running:
        running.wait_until_serving(2)
        running.signal(signal.SIGTERM)
        assert running.exit_code() == 0
        words = "".join(running.lines)
        assert words.index("clients are asked to go elsewhere") < words.index("Shutting down")


def asks_to_go(answer: bytes) -> bool:
    """Whether the connection ends with an answer, which has to be a good one."""
    assert answer.startswith(b"HTTP/1.1 200 ")
    return b"connection: close" in answer.lower()


SLOW_TO_START = """
uvicorn_server._PATIENCE_S = 600

def altered(worker, engine, create):
    if worker.number == 1:
        while not worker.all_have_begun():
            time.sleep(0.01)
        time.sleep(1)  # the other one could take them all by now
        say("the second goes on")
    return create()
"""


@pytest.mark.process
def test_who_comes_before_all_workers_have_started_does_not_stay_with_the_first(bundle: Path) -> None:
    """None is taken before; how they are shared at first depends on who wakes when, but few more than half may stay."""
    with altered(SLOW_TO_START, bundle, "--workers", "2") as running, ExitStack() as opened:
        connections = [opened.enter_context(running.connect()) for _ in range(24)]
        for connection in connections:
            connection.sendall(request_of(image(RED)))
        pids = [int(pid) for pid in running.wait_for(STARTED, 2)]
        running.wait_for("mixer.access POST /classify 200")
        lines = list(running.lines)
        first = next(number for number, line in enumerate(lines) if "mixer.access" in line)
        assert "the second goes on\n" in lines[:first]

        for connection in connections:
            assert read_until(connection, b"]}").startswith(b"HTTP/1.1 200 ")

        def are_shared() -> bool:
            """Each asks once more, and comes anew where it is asked to leave."""
            for number, connection in enumerate(connections):
                if b"\r\nconnection: close\r\n" in ask_on(connection, READY, b"}"):
                    connections[number] = opened.enter_context(running.connect())
                    ask_on(connections[number], READY, b"}")
            taken = Counter(owners(connections, pids))
            return min(taken[pid] for pid in pids) >= 24 / 2 - 4

        until(are_shared)


HELD_BEFORE_THE_ENGINE = """
import fcntl
from app.errors import EngineError, StartError

opened, served = open_engine, serve.serve

def open_engine(options):
    say("before the engine")
    with open({gate!r}) as gate:
        fcntl.flock(gate, fcntl.LOCK_SH)
    if {bad}:
        raise EngineError("The bundle is bad.")
    return opened(options)

def altered(worker, engine, create):
    return create()

def told_in_a_line(make, settings):
    try:
        return served(make, settings)
    except StartError as error:
        say("mixer:", error)
        return error.exit_code

serve.serve = told_in_a_line
"""


@contextmanager
def held_before_the_engine(
    bundle: Path, folder: Path, workers: int, *, bad: bool = False
) -> Iterator[tuple[Server, Callable[[], None]]]:
    """A service none of whose engines is opened before the function beside it is called."""
    gate = folder / "gate"
    script = HELD_BEFORE_THE_ENGINE.format(gate=str(gate), bad=bad)
    with gate.open("w") as held, altered(script, bundle, "--workers", str(workers)) as running:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield running, lambda: fcntl.flock(held, fcntl.LOCK_UN)


@pytest.mark.process
def test_one_process_refuses_connections_until_its_engine_is_open(bundle: Path, tmp_path: Path) -> None:
    with held_before_the_engine(bundle, tmp_path, 1) as (running, let_go):
        running.wait_for("before the engine")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", running.port), timeout=PATIENCE_S)
        let_go()
        with running.connect() as connection:
            assert ask_on(connection, READY, b"}").startswith(b"HTTP/1.1 200 ")


@pytest.mark.process
def test_several_listen_before_their_engines_are_open_and_answer_once_they_are(bundle: Path, tmp_path: Path) -> None:
    with held_before_the_engine(bundle, tmp_path, 2) as (running, let_go):
        running.wait_for("before the engine", 2)  # each opens its own, and nobody opened one before them
        with socket.create_connection(("127.0.0.1", running.port), timeout=PATIENCE_S) as connection:
            connection.sendall(READY)
            connection.setblocking(False)
            with pytest.raises(BlockingIOError):
                connection.recv(1)
            connection.settimeout(PATIENCE_S)
            let_go()
            assert read_until(connection, b"}").startswith(b"HTTP/1.1 200 ")
        assert len([line for line in running.lines if "before the engine" in line]) == 2


@pytest.mark.process
@pytest.mark.parametrize("workers", [1, 2])
def test_a_bundle_that_cannot_be_used_ends_the_start_with_3_and_one_line(
    workers: int, bundle: Path, tmp_path: Path
) -> None:
    with held_before_the_engine(bundle, tmp_path, workers, bad=True) as (running, let_go):
        running.wait_for("before the engine", workers)
        let_go()
        assert running.exit_code() == 3
        assert [line for line in running.lines if "before the engine" not in line] == ["mixer: The bundle is bad.\n"]


@pytest.mark.process
def test_who_waits_for_several_that_cannot_start_is_closed_without_an_answer(bundle: Path, tmp_path: Path) -> None:
    with held_before_the_engine(bundle, tmp_path, 2, bad=True) as (running, let_go):
        running.wait_for("before the engine", 2)
        with socket.create_connection(("127.0.0.1", running.port), timeout=PATIENCE_S) as connection:
            connection.sendall(READY)
            let_go()
            with pytest.raises(ConnectionResetError):
                connection.recv(1)
        assert running.exit_code() == 3


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
def test_a_stop_signal_ends_serve_as_a_success(
    number: signal.Signals, bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spec = color_spec()
    engine = engine_of(FakeSession(spec, means_of_colors), spec)
    settings = Settings(port=free_port(), drain_timeout_s=5, workers=1, bundle=bundle)
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
            raise SystemExit(serve.serve(lambda worker: create_service(settings, engine, worker), settings))
    finally:
        log.removeHandler(listening)
        visitor.join(PATIENCE_S)
    assert ended.value.code == 0
    assert statuses == [200]


@pytest.mark.usefixtures("signals_put_back")
def test_an_application_that_cannot_start_is_a_failure() -> None:
    @asynccontextmanager
    async def failing(_: FastAPI) -> AsyncIterator[None]:
        raise ZeroDivisionError
        yield

    metrics = WatchedMetrics()
    gate = Gate(None, metrics, 30)
    app = FastAPI(lifespan=failing)
    made = Service(app, None, None, gate, metrics, lambda: 0.0, lambda: ("ready", ""), lambda: None)
    with pytest.raises(SystemExit) as ended:
        raise SystemExit(serve.serve(lambda _: made, Settings(port=free_port(), workers=1)))
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
            serve._listen(host, port)
    assert str(refused.value) == (
        f"MIXER_HOST is {host} and MIXER_PORT {port}, which cannot be listened on: Address already in use."
    )


def test_a_host_that_is_not_of_this_machine_is_refused() -> None:
    with pytest.raises(StartError, match=r"^MIXER_HOST is 192\.0\.2\.1 and MIXER_PORT \d+, which cannot"):
        serve._listen("192.0.2.1", free_port())


# --- several processes ---


def cpus_of(pid: int) -> set[int]:
    """Those on which any of a process's threads may run."""
    return set().union(*(os.sched_getaffinity(int(task.name)) for task in Path(f"/proc/{pid}/task").iterdir()))


@pytest.mark.process
@pytest.mark.parametrize("is_pinned", [False, True])
def test_workers_have_cpus_of_their_own_where_they_are_pinned_and_so_does_a_successor(
    is_pinned: bool, bundle: Path
) -> None:
    if len(mine := os.sched_getaffinity(0)) < 2:
        pytest.skip("this machine has one CPU")
    with (
        served(bundle, "--workers", "2", *(["--pin-workers", "true"] if is_pinned else [])) as running,
        ExitStack() as opened,
    ):
        several = Several(running, opened, 8)
        assert running.classify(image(RED))["predictions"][0]["label"] == "red"  # all threads are there
        first, second = map(cpus_of, several.pids)
        if not is_pinned:
            assert first == second == mine
            return
        assert first | second == mine
        assert not first & second
        dead = several.pids[0]
        os.kill(dead, signal.SIGKILL)
        running.wait_for(rf"worker \d \(process {dead}\) was ended by SIGKILL, and is replaced")
        successor = int(running.wait_for(STARTED, 3)[2])
        running.wait_for(SERVING, 3)
        assert cpus_of(successor) == first


def test_where_a_sandbox_forbids_it_the_start_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(pid: int, cpus: set[int]) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {4, 5, 6, 7})
    monkeypatch.setattr(os, "sched_setaffinity", forbidden)
    with pytest.raises(StartError) as refused:
        serve._pin(1, 2)
    assert str(refused.value) == (
        "MIXER_PIN_WORKERS is true, and worker 1 cannot be kept to the CPUs [6, 7]: Operation not permitted; "
        "expected false here."
    )


def test_where_the_system_pins_no_process_that_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_setaffinity")
    with pytest.raises(StartError, match=r"^MIXER_PIN_WORKERS is true; expected false, as this system"):
        serve.serve(lambda worker: pytest.fail("it was made"), Settings(pin_workers=True, workers=2))


class Several:
    """A service of two workers, and connections that each of them has about as many of, so that none is asked to go."""

    def __init__(self, running: Server, opened: ExitStack, count: int = 32) -> None:
        running.wait_until_serving(workers=2)
        self.pids = [int(pid) for pid in running.wait_for(STARTED, 2)]
        while True:  # on a busy machine one of them may take nearly all
            self.connections = [opened.enter_context(running.connect()) for _ in range(count)]
            for connection in self.connections:
                ask_on(connection, METRICS, b"mixer_worker_restarts_total")
            self.owners = owners(self.connections, self.pids)
            if None not in self.owners and all(
                abs(len(self.of(pid)) - count / 2) <= max(2, count / 10) for pid in self.pids
            ):
                break
            for connection in self.connections:
                connection.close()

    def of(self, pid: int) -> list[socket.socket]:
        return [one for one, owner in zip(self.connections, self.owners, strict=True) if owner == pid]


@pytest.mark.process
def test_connections_are_shared_out_and_stopping_ends_all_workers(bundle: Path) -> None:
    with served(bundle, "--workers", "2") as running, ExitStack() as opened:
        several = Several(running, opened)
        assert min(Counter(several.owners).values()) >= 8
        assert len(set(several.owners)) == 2
        until(lambda: samples_of(running.get("/metrics"))["mixer_connections"] == 33)  # those of before have gone
        running.signal(signal.SIGTERM)
        assert running.exit_code() == 0
        assert not [line for line in running.lines if "Traceback" in line or "replaced" in line]


@pytest.mark.process
def test_two_workers_share_the_port_and_their_metrics_and_a_killed_one_is_replaced(bundle: Path) -> None:
    with served(bundle, "--workers", "2") as running, ExitStack() as opened:
        several = Several(running, opened, 16)
        for connection in several.connections:
            assert b'"label":"red"' in ask_on(connection, request_of(image(RED)))
        shown = [ask_on(several.of(pid)[0], METRICS, b"mixer_worker_restarts_total 0.0\n") for pid in several.pids]
        for text in shown:
            body = text.partition(b"\r\n\r\n")[2].decode()
            before = samples_of(body)
            assert before['mixer_images_total{outcome="classified"}'] == 16
            assert before['mixer_predictions_total{label="red"}'] == 16
            info = 'mixer_engine_info{model="colours",precision="fp32",provider="cpu",version="7"}'
            assert before[info] == 1
            assert before["mixer_connections"] == 16

        dead, alive = several.pids
        cut_off = several.of(dead)[0]
        cut_off.sendall(head_of_upload(len(image(BLUE))))
        assert read_until(cut_off, b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")  # it is in the middle of a request
        os.kill(dead, signal.SIGKILL)
        killed = time.monotonic()
        running.wait_for(rf"worker \d \(process {dead}\) was ended by SIGKILL, and is replaced")
        assert read_until(cut_off, b"\r\n\r\n") == b""
        for connection in several.of(alive):
            assert b'"label":"green"' in ask_on(connection, request_of(image(GREEN)))
        successor = int(running.wait_for(STARTED, 3)[2])
        assert is_within(time.monotonic() - killed, 15, time.perf_counter)
        running.wait_for(SERVING, 3)
        assert successor not in several.pids

        after = idle_samples(running)
        greens = len(several.of(alive))
        assert after['mixer_images_total{outcome="classified"}'] == 16 + greens  # what the dead one did still counts
        assert after["mixer_connections"] == greens + 1
        assert after["mixer_worker_restarts_total"] == 1
        assert after[info] == 1
        running.signal(signal.SIGTERM)
        assert running.exit_code() == 0
        assert not [line for line in running.lines if "Traceback" in line]


BLOCKED = """
class Blocking:
    async def __call__(self, scope, receive, send):
        say("the loop stands still")
        time.sleep(1000)

def altered(worker, engine, create):
    service = create()
    service.app.dispatch("POST", "/block", Blocking())
    return service
"""


@pytest.mark.process
def test_a_worker_whose_event_loop_stands_still_is_killed_and_replaced(bundle: Path) -> None:
    with altered(BLOCKED, bundle, "--workers", "2", "--watchdog-s", "2") as running, ExitStack() as opened:
        several = Several(running, opened, 8)
        still, alive = several.pids
        several.of(still)[0].sendall(b"POST /block HTTP/1.1\r\nHost: service\r\nContent-Length: 0\r\n\r\n")
        running.wait_for("the loop stands still")
        assert b'"label":"green"' in ask_on(several.of(alive)[0], request_of(image(GREEN)))
        running.wait_for(rf"worker \d \(process {still}\) hangs, and is killed")
        running.wait_for(rf"worker \d \(process {still}\) was ended by SIGKILL, and is replaced")
        running.wait_for(SERVING, 3)
        assert not Path(f"/proc/{still}").exists()
        assert b'"label":"blue"' in ask_on(several.of(alive)[0], request_of(image(BLUE)))
        running.signal(signal.SIGTERM)
        assert running.exit_code() == 0


WRONG = """
def altered(worker, engine, create):
    if worker.number == 1:
        canary = engine.spec.canary.model_copy(update={"logits": (0.0, 0.0, 0.0)})
        engine.spec = engine.spec.model_copy(update={"canary": canary})
    return create()
"""


@pytest.mark.process
def test_where_one_worker_answers_wrongly_no_worker_is_ready(bundle: Path) -> None:
    with altered(WRONG, bundle, "--workers", "2") as running, ExitStack() as opened:
        several = Several(running, opened, 8)
        words = [ask_on(several.of(pid)[0], READY, b"}") for pid in several.pids]
        assert all(b" 503 Service Unavailable" in answer for answer in words)
        assert sum(b"Worker 1: The canary picture's logits are off by 10;" in answer for answer in words) == 1
        assert sum(b"The canary picture's logits are off by 10;" in answer for answer in words) == 2
        assert b'"label":"red"' in ask_on(several.connections[0], request_of(image(RED)))  # whoever asks is answered


async def test_a_connection_that_is_opened_at_the_end_is_told_to_end() -> None:
    told = asyncio.Event()

    class Late(asyncio.Protocol):
        def shutdown(self) -> None:
            told.set()

    held = uvicorn_server.Held(lambda count: None)
    held.add(Late())
    assert not told.is_set()
    held.is_over = True
    held.add(Late())
    async with asyncio.timeout(PATIENCE_S):
        await told.wait()


@pytest.mark.process
@pytest.mark.parametrize("workers", ["1", "2"])
def test_what_cannot_start_ends_with_its_exit_code_and_one_line(workers: str, tmp_path: Path) -> None:
    with served(tmp_path, "--workers", workers) as running:
        assert running.exit_code() == 3
        (line,) = running.lines
        assert line.startswith(f"mixer: The bundle {tmp_path} has no fp32.onnx")


@pytest.mark.process
def test_several_workers_of_an_application_that_cannot_start_are_a_failure(bundle: Path) -> None:
    script = """
def altered(worker, engine, create):
    service = create()
    def lifespan(app):
        raise ZeroDivisionError
    service.app.router.lifespan_context = lifespan
    return service
"""
    with altered(script, bundle, "--workers", "2") as running:
        assert running.exit_code() not in (0, None)
        assert [line for line in running.lines if "ZeroDivisionError" in line]
        assert not [line for line in running.lines if "replaced" in line]
