"""HTTP by hand, and what /proc says of a server: what a well-behaved client does not do, and what it costs."""

import itertools
import json
import os
import socket
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.app.fakes import samples_of
from tests.app.servers import Server, free_port

BOUNDARY = b"XX"
FORM = b"multipart/form-data; boundary=XX"
MEGABYTE = 1_000_000


def served(bundle: Path, *flags: str) -> Server:
    """`mixer serve` over a bundle."""
    port = free_port()
    return Server("-m", "cli", "serve", "--port", str(port), "--bundle", str(bundle), *flags, port=port)


_GATED = """
import os, signal, sys, threading
from app.telemetry import logs
from app.server import serve as server
from app.engine.engine import open_engine
from app.engine.runners import SessionRunner
from app.composition import engine_options
from app.main import create_service
from app.settings import load

gate = threading.Semaphore(0)
signal.signal(signal.SIGUSR1, lambda *_: gate.release())

class Gated(SessionRunner):
    def run(self, patches):
        os.write(2, b"a run has begun\\n")  # at once: print would let a line of the log come before its end
        gate.acquire()
        return super().run(patches)

settings = load(sys.argv[1:])
engine = open_engine(engine_options(settings))
for instance in engine.pool:
    instance.runner.__class__ = Gated
engine.spec = engine.spec.model_copy(update={"canary": None})
logs.configure("text", "info")
sys.exit(server.serve(lambda worker: create_service(settings, engine, worker), settings))
"""
A_RUN_HAS_BEGUN = "a run has begun"


def gated(bundle: Path, *flags: str) -> Server:
    """A service of one process and one instance, whose every run waits for a SIGUSR1."""
    port = free_port()
    given = ["--port", str(port), "--bundle", str(bundle), "--workers", "1", "--instances", "1", *flags]
    return Server("-c", _GATED, *given, port=port)


def post(body: bytes, *headers: bytes, path: bytes = b"/classify", content_type: bytes = b"image/png") -> bytes:
    """A whole request. Its length is declared unless a header says how long it is."""
    lines = [b"POST " + path + b" HTTP/1.1", b"Host: service", b"Content-Type: " + content_type, *headers]
    if not any(header.startswith((b"Content-Length", b"Transfer-Encoding")) for header in headers):
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def part(content: bytes, name: bytes = b"file", filename: bytes | None = b"a.png") -> bytes:
    """One part of a form."""
    suffix = b"" if filename is None else b'; filename="%s"' % filename
    return b'--XX\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n' % (name, suffix, content)


def batch(*payloads: bytes) -> bytes:
    """A request to /classify/batch."""
    form = b"".join(part(payload) for payload in payloads) + b"--XX--\r\n"
    return post(form, path=b"/classify/batch", content_type=FORM)


@dataclass(frozen=True)
class Answer:
    """What came back: 0 where the connection ended before an answer."""

    status: int
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The problem's code, "" where it is none."""
        return str(self.json["code"]) if self.body.startswith(b'{"type"') else ""

    @property
    def label(self) -> str:
        return str(self.json["predictions"][0]["label"])


class Reader:
    """Takes one answer after the other off a connection. `closes`: whether the last one was to be the last one."""

    def __init__(self, connection: socket.socket) -> None:
        self.closes = False
        self._connection = connection
        self._received = b""

    def answer(self) -> Answer:
        """The next one that is final. An end of the connection before it is status 0."""
        while True:
            head = self._until(b"\r\n\r\n")
            if head is None:
                return Answer(0, b"")
            status = int(head.split(b" ", 2)[1])
            if status >= 200:
                self.closes = b"\r\nconnection: close" in head.lower()
                return Answer(status, self._exactly(_length_in(head)))

    def ended(self) -> bool:
        """Whether nothing more comes, and the connection is closed."""
        return not self._received and not self._more()

    def _until(self, mark: bytes) -> bytes | None:
        while mark not in self._received:
            if not self._more():
                return None
        found, _, self._received = self._received.partition(mark)
        return found

    def _exactly(self, count: int) -> bytes:
        while len(self._received) < count and self._more():
            continue
        body, self._received = self._received[:count], self._received[count:]
        return body

    def _more(self) -> bool:
        try:
            piece = self._connection.recv(1 << 16)
        except ConnectionResetError:
            return False
        self._received += piece
        return bool(piece)


def ask(server: Server, request: bytes) -> Answer:
    """The answer to `request` on a connection of its own, which may end before all of it is sent."""
    with server.connect() as connection:
        threading.Thread(target=_send, args=(connection, request), daemon=True).start()
        return Reader(connection).answer()


_marks = itertools.count()


def lines_so_far(server: Server) -> int:
    """How many lines the log has, once those about all earlier requests are in it: access lines come a moment later."""
    mark = b"a-mark-%d" % next(_marks)
    ask(server, post(b"", b"X-Request-Id: " + mark))
    server.wait_for(rf"\b{mark.decode()}\b")
    return len(server.lines)


def metric(server: Server, name: str) -> float:
    """The value of one sample, 0 where there is none yet."""
    return samples_of(server.get("/metrics")).get(name, 0.0)


@dataclass(frozen=True)
class Usage:
    """Processor seconds so far, and megabytes held now and at most since `forget_peak`."""

    cpu_s: float
    held: float
    peak: float


def pid_of(server: Server) -> int:
    """Of a service of one process."""
    return server._process.pid


def usage(pid: int) -> Usage:
    """What the system says of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    held, peak = (int(status[name].split()[0]) * 1024 / MEGABYTE for name in ("VmRSS", "VmHWM"))
    return Usage(ticks / os.sysconf("SC_CLK_TCK"), held, peak)


def forget_peak(pid: int) -> None:
    """From now on the peak is counted anew."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _send(connection: socket.socket, request: bytes) -> None:
    try:
        connection.sendall(request)
    except OSError:  # the server has heard enough
        return


def _length_in(head: bytes) -> int:
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return int(lengths[0].split(b":")[1]) if lengths else 0
