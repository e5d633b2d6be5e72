"""A service in a process of its own, on a real socket. Tests wait for its log lines and answers, not for a clock."""

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.pace import slowness_at_first

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60 * slowness_at_first()  # costs nothing where what is waited for comes
STARTED = r"Started server process \[(\d+)\]"  # a worker
READY = r"\b(ready|not ready yet) on http"  # once, however often workers are replaced
SERVING = "Application startup complete"  # and a moment later it listens: connect() waits for that


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def connect(port: int) -> socket.socket:
    """A connection to a server that has started or is about to: until it listens, the system refuses."""
    pause, deadline = threading.Event(), time.monotonic() + PATIENCE_S
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            pause.wait(0.01)


def until(condition: Callable[[], bool]) -> None:
    """Ask again and again, for what no event tells."""
    deadline, pause = time.monotonic() + PATIENCE_S, threading.Event()
    while not condition():
        assert time.monotonic() < deadline
        pause.wait(0.02)


def clean_environment(**variables: str) -> dict[str, str]:
    """This process's, without options of the service or of how Python writes, and with `variables`.

    What decoding may take is meant for a fast machine that traces nothing.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MIXER_")}
    inherited.pop("PYTHONUNBUFFERED", None)
    limit_s = str(round(4 * slowness_at_first(), 1))
    return {**inherited, "PYTHONWARNINGS": "default", "MIXER_DECODE_CPU_LIMIT_S": limit_s, **variables}


_ALTERED = """
import os, signal, sys, threading, time
from app.telemetry import logs
from app.server import topology, serve, uvicorn_server
from app.engine.engine import open_engine
from app.engine.runners import SessionRunner
from app.composition import engine_options
from app.main import create_service
from app.settings import load

def say(*words):
    os.write(2, (" ".join(map(str, words)) + "\\n").encode())

{script}

settings = topology.planned(load(sys.argv[1:]))

def make(worker):
    engine = open_engine(engine_options(settings))
    return altered(worker, engine, lambda: create_service(settings, engine, worker))

logs.configure("text", "info")
sys.exit(serve.serve(make, settings))
"""


def altered(script: str, bundle: Path, *flags: str) -> "Server":
    """`mixer serve`, each of whose workers is what `altered(worker, engine, create)` of the script returns."""
    port = free_port()
    command = ("-c", _ALTERED.format(script=script), "--port", str(port), "--bundle", str(bundle), "--instances", "1")
    return Server(*command, *flags, port=port)


def owners(connections: list[socket.socket], pids: list[int]) -> list[int | None]:
    """The process at the other end of each connection; None where that has been closed."""
    inodes = {}
    for fields in map(str.split, Path("/proc/net/tcp").read_text().splitlines()[1:]):
        inodes[fields[1], fields[2]] = fields[9]
    held = {pid: _sockets_of(pid) for pid in pids}

    def written(address: tuple[str, int]) -> str:
        return f"{int.from_bytes(socket.inet_aton(address[0]), sys.byteorder):08X}:{address[1]:04X}"

    ends = [inodes.get((written(one.getpeername()), written(one.getsockname()))) for one in connections]
    return [next((pid for pid in pids if end in held[pid]), None) for end in ends]


def connected_to_all(port: int, pids: list[int], count: int) -> list[socket.socket]:
    """`count` connections or more, of which each process has one: a busy machine may wake the second of them late."""
    connections: list[socket.socket] = []

    def all_have_one() -> bool:
        connections.append(connect(port))
        connections[-1].sendall(b"GET /health/live HTTP/1.1\r\nHost: service\r\n\r\n")
        assert read_until(connections[-1], b"}").startswith(b"HTTP/1.1 200 ")
        return len(connections) >= count and set(owners(connections, pids)) == set(pids)

    until(all_have_one)
    return connections


def _sockets_of(pid: int) -> set[str]:
    links = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed since it was listed
            links.append(str(entry.readlink()))
    return {link.removeprefix("socket:[").removesuffix("]") for link in links if link.startswith("socket:[")}


class Server:
    """`python *command`, killed at the latest when the test ends."""

    def __init__(self, *command: str, port: int) -> None:
        self.port = port
        self._process = subprocess.Popen(
            [sys.executable, *command], cwd=ROOT, env=clean_environment(), stderr=subprocess.PIPE, text=True
        )
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        if self._process.stderr is not None:
            self._process.stderr.close()

    def wait_for(self, pattern: str, count: int = 1) -> list[str]:
        """Until `count` log lines match; returns what the pattern's groups matched in them."""

        def found() -> list[str]:
            return [match[match.re.groups] for line in self.lines if (match := re.search(pattern, line))]

        with self._news:
            told = self._news.wait_for(lambda: len(found()) >= count or not self._reader.is_alive(), PATIENCE_S)
            assert told, "".join(self.lines)
            assert len(found()) >= count, "".join(self.lines)
            return found()

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def is_running(self) -> bool:
        return self._process.poll() is None

    def exit_code(self) -> int:
        code = self._process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        return code

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=PATIENCE_S) as answer:
            return str(answer.read().decode())

    def classify(self, payload: bytes) -> Any:
        url = f"http://127.0.0.1:{self.port}/classify"
        request = urllib.request.Request(url, payload, {"Content-Type": "image/png"})
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return json.load(answer)

    def wait_until_serving(self, workers: int = 1) -> None:
        self.wait_for(SERVING, workers)
        self.wait_for(READY)  # the last line of a start
        self.connect().close()

    def connect(self) -> socket.socket:
        return connect(self.port)

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            with self._news:
                self.lines.append(line)
                self._news.notify_all()
        with self._news:
            self._news.notify_all()


def head_of_upload(length: int) -> bytes:
    """The head of a POST /classify; the server says "100 Continue" once the request has reached the application."""
    return (
        "POST /classify HTTP/1.1\r\nHost: service\r\nContent-Type: image/png\r\n"
        f"Content-Length: {length}\r\nExpect: 100-continue\r\n\r\n"
    ).encode()


def read_until(connection: socket.socket, mark: bytes) -> bytes:
    """What arrives, up to `mark` or the end of the connection."""
    received = b""
    while mark not in received:
        piece = connection.recv(65536)
        if not piece:
            break
        received += piece
    return received
