"""Limits are those of the whole service: two workers together have no more than one would have."""

import json
import os
import re
import select
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.app.certificates import certificate
from tests.app.color_bundle import GREEN, RED, image
from tests.app.problem_answers import expect_problem_body
from tests.app.servers import PATIENCE_S, STARTED, Server, altered, free_port, head_of_upload, owners, read_until

pytestmark = pytest.mark.process

LIVE = b"GET /health/live HTTP/1.1\r\nHost: service\r\n\r\n"
FORM_BYTES = 64 << 10


def two_workers(bundle: Path, *flags: str) -> Server:
    port = free_port()
    command = ["--port", str(port), "--bundle", str(bundle), "--workers", "2", "--instances", "1", *flags]
    return Server("-m", "cli", "serve", *command, port=port)


def until(condition: Callable[[], bool], what: str) -> None:
    deadline, pause = time.monotonic() + 2 * PATIENCE_S, threading.Event()
    while not condition():
        assert time.monotonic() < deadline, what
        pause.wait(0.02)


def answer_on(connection: socket.socket, request: bytes) -> tuple[int, bytes]:
    """Status and body."""
    connection.sendall(request)
    head = b""
    while not head or head.startswith(b"HTTP/1.1 100 "):
        head = read_exactly(connection, b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    body = b""
    while length is not None and len(body) < int(length[1]):
        body += connection.recv(int(length[1]) - len(body))
    return int(head.split(b" ", 2)[1]), body


def read_exactly(connection: socket.socket, mark: bytes) -> bytes:
    """What arrives up to the mark, and nothing behind it."""
    received = b""
    while not received.endswith(mark):
        piece = connection.recv(1)
        assert piece, received
        received += piece
    return received


def upload(payload: bytes) -> bytes:
    return head_of_upload(len(payload)).replace(b"Expect: 100-continue\r\n", b"") + payload


def one_of_each(running: Server, opened: ExitStack) -> list[socket.socket]:
    """A connection to each of the two workers."""
    pids = [int(pid) for pid in running.wait_for(STARTED, 2)]
    found: dict[int, socket.socket] = {}

    def both() -> bool:
        connections = [opened.enter_context(running.connect()) for _ in range(4)]
        for connection in connections:
            assert answer_on(connection, LIVE)[0] == 200
        for connection, owner in zip(connections, owners(connections, pids), strict=True):
            found.setdefault(owner, connection)
        return len(found) == 2

    until(both, "one worker takes all connections")
    return [found[pid] for pid in pids]


def test_what_the_limits_are_is_logged_once(bundle: Path) -> None:
    flags = ["--queue-capacity", "100", "--max-connections", "50", "--decode-memory-bytes", str(20 << 20)]
    with two_workers(bundle, *flags) as running:
        running.wait_until_serving(workers=2)
        said = [line for line in running.lines if "limits of the whole service" in line]
    assert len(said) == 1
    assert said[0].endswith(
        "limits of the whole service: 100 images, 50 connections, 128 MiB of uploads, 20 MiB of decoding; 2 workers\n"
    )


# --- queue_capacity ---

GATED = """
class Gated(SessionRunner):
    def run(self, patches):
        say("a run has begun")
        gate.wait()
        return super().run(patches)

gate = threading.Event()

def altered(worker, engine, create):
    signal.signal(signal.SIGUSR1, lambda *_: gate.set())
    engine.pool[0].runner.__class__ = Gated
    engine.spec = engine.spec.model_copy(update={"canary": None})
    return create()
"""


def test_the_places_in_the_queue_are_those_of_all_workers(bundle: Path) -> None:
    flags = ["--workers", "2", "--queue-capacity", "2", "--max-images-per-request", "2"]
    with altered(GATED, bundle, *flags) as running, ExitStack() as opened:
        running.wait_until_serving(workers=2)
        first, second = one_of_each(running, opened)
        first.sendall(upload(image(RED)))
        running.wait_for("a run has begun")
        second.sendall(upload(image(GREEN)))
        running.wait_for("a run has begun", 2)
        for refused in one_of_each(running, opened):
            status, body = answer_on(refused, upload(image(RED)))
            words = expect_problem_body(json.loads(body), status, "queue_full")
            assert status == 429
            assert words.startswith("2 of 2 places in the queue are taken; expected room for 1. Try again in ")
        for pid in running.wait_for(STARTED, 2):
            os.kill(int(pid), signal.SIGUSR1)
        assert b'"label":"red"' in read_until(first, b"]}")
        assert b'"label":"green"' in read_until(second, b"]}")
        for free in one_of_each(running, opened):
            assert answer_on(free, upload(image(RED)))[0] == 200


def test_a_place_of_a_worker_that_died_is_free_before_another_takes_over(bundle: Path) -> None:
    flags = ["--workers", "2", "--queue-capacity", "1", "--max-images-per-request", "1"]
    script = GATED + "\nfrom app.server import supervisor\nsupervisor._PAUSE_S = 1000.0\n"
    with altered(script, bundle, *flags) as running, ExitStack() as opened:
        running.wait_until_serving(workers=2)
        dying, living = one_of_each(running, opened)
        dead, alive = (int(pid) for pid in running.wait_for(STARTED, 2))
        dying.sendall(upload(image(RED)))
        running.wait_for("a run has begun")
        assert answer_on(living, upload(image(GREEN)))[0] == 429
        os.kill(alive, signal.SIGUSR1)
        os.kill(dead, signal.SIGKILL)
        until(lambda: answer_on(living, upload(image(GREEN)))[0] == 200, "its place is not free")


# --- upload_memory_bytes ---


def test_the_bytes_of_bodies_are_those_of_all_workers(bundle: Path) -> None:
    most = 60_000 + FORM_BYTES
    flags = ["--max-image-bytes", "60000", "--max-request-bytes", "60000", "--upload-memory-bytes", str(most)]
    with two_workers(bundle, *flags) as running, ExitStack() as opened:
        running.wait_until_serving(workers=2)
        halves = one_of_each(running, opened)
        for half in halves:
            half.sendall(head_of_upload(60_000))
            assert read_exactly(half, b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
            half.sendall(bytes(55_000))

        def is_refused() -> bool:
            """A body of 50,000 bytes, none of which is sent: too large for what is left, not for one worker alone."""
            with running.connect() as connection:
                connection.sendall(head_of_upload(50_000))
                head = read_exactly(connection, b"\r\n\r\n")
                if not head.startswith(b"HTTP/1.1 429 "):
                    return False
                refusals.append(expect_problem_body(json.loads(read_until(connection, b"}")), 429, "uploads_full"))
                return True

        refusals: list[str] = []
        until(is_refused, "bodies in different workers do not count together")
        assert refusals[-1] == (
            f"The service holds 110000 of {most} bytes of uploads; expected room for 50000. Try again in 1 s."
        )
        halves[0].close()
        until(lambda: not is_refused(), "the bytes of a client that has gone are held")


# --- max_connections ---


def test_connections_are_counted_over_all_workers_and_those_that_came_before_are_served_on(bundle: Path) -> None:
    with two_workers(bundle, "--max-connections", "6") as running, ExitStack() as opened:
        running.wait_until_serving(workers=2)

        def one_more() -> bool:
            """Whether a new connection is served; it stays where it is."""
            connection = running.connect()
            if answer_on(connection, LIVE)[0] == 503:
                connection.close()
                return False
            served.append(opened.enter_context(connection))
            return True

        served: list[socket.socket] = []
        while len(served) < 6:
            until(one_more, "what others closed is counted")  # that which saw it serving, say
        with running.connect() as beyond:
            for connection in served:
                assert answer_on(connection, LIVE)[0] == 200
            assert answer_on(beyond, LIVE)[0] == 503
        assert not one_more()
        served.pop().close()
        until(one_more, "what a client closed is counted")
        for connection in served:
            if connection.fileno() >= 0:
                assert answer_on(connection, LIVE)[0] == 200


def test_handshakes_that_nobody_ends_are_counted_over_all_workers(bundle: Path, tmp_path: Path) -> None:
    own = certificate(tmp_path, "own")
    flags = ["--max-connections", "4", "--tls-cert-file", str(own.cert), "--tls-key-file", str(own.key)]
    with two_workers(bundle, *flags) as running, ExitStack() as held:
        running.wait_until_serving(workers=2)
        silent = [held.enter_context(running.connect()) for _ in range(12)]
        poll = select.poll()
        for connection in silent:
            poll.register(connection, select.POLLIN)
        until(lambda: len(poll.poll(0)) >= 7, "more than five handshakes go on")
        assert len(poll.poll(0)) < 10


def test_they_are_told_with_the_number_of_workers(bundle: Path) -> None:
    with two_workers(bundle, "--max-connections", "50") as running:
        running.wait_until_serving(workers=2)
        limits = json.loads(running.get("/model"))["limits"]
    assert {name: limits[name] for name in ("queue_capacity", "max_connections", "workers")} == {
        "queue_capacity": 512, "max_connections": 50, "workers": 2,
    }  # fmt: skip
