"""HTTP as nobody should speak it, on many connections at once: requests taken apart, cut anywhere, broken off."""

import base64
import json
import random
import re
import selectors
import socket
import struct
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass

from tests.fuzzing import seeds  # makes the modules below importable
from tests.fuzzing.mutations import spoiled

assert seeds
from tests.app.color_bundle import BLUE, GREEN, RED, image  # noqa: E402
from tests.faults.wire import FORM, part, post  # noqa: E402

ENDINGS = ("patient", "patient", "patient", "closed", "half closed", "reset")
_QUIET_S = 0.1  # without a byte, and a patient client has what it came for
_MOST_S = 5.0
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")
_WORDS = (
    *(b"\r\n", b"\n", b"\r", b"\x00", b" ", b"\t", b":", b",", b";", b"/", b"?", b"%", b"%00", b"#", b"\xff"),
    *(b"\x80", b"//", b"HTTP/1.0", b"HTTP/1.1", b"HTTP/2.0", b"HTTP/9.9", b"GET ", b"POST ", b"PUT ", b"HEAD "),
    *(b"OPTIONS ", b"CONNECT ", b"Content-Length: 0\r\n", b"Content-Length: 5\r\n", b"Content-Length: -1\r\n"),
    *(b"Content-Length: 99999999999999999999\r\n", b"Transfer-Encoding: chunked\r\n"),
    *(b"Transfer-Encoding: chunked, chunked\r\n", b"Transfer-Encoding: identity\r\n", b"Connection: close\r\n"),
    *(b"Connection: keep-alive\r\n", b"Connection: Upgrade\r\nUpgrade: websocket\r\n"),
    *(b"Upgrade: h2c\r\nHTTP2-Settings: \r\n", b"Expect: 100-continue\r\n", b"Expect: everything\r\n"),
    *(b"Host: \r\n", b"Host: a\r\n", b"Content-Type: multipart/form-data\r\n", b"Content-Type: text/plain\r\n"),
    *(b"X-Request-ID: a\r\n", b"Authorization: Bearer a\r\n", b"0\r\n\r\n", b"5\r\nabcde\r\n"),
    *(b"ffffffffffffffff\r\n", b"-1\r\n", b"5;a=b\r\n", b"X: " + b"a" * 5000 + b"\r\n", b" folded\r\n"),
    *(b"?top_k=0", b"?top_k=99999999999999999999", b"?top_k=", b"&top_k=1", b"/..", b"/classify"),
    *(b"/classify/batch", b"/metrics"),
)  # fmt: skip


@dataclass(frozen=True)
class Line:
    """What one connection sends, piece by piece, and how it ends."""

    pieces: tuple[bytes, ...]
    ending: str


def whole_requests() -> list[bytes]:
    """What a client may well send."""
    form = part(image(RED)) + b"--XX--\r\n"
    many = part(image(RED)) + part(b"junk") + part(image(BLUE)) + b"--XX--\r\n"
    body = image(GREEN)
    chunked = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (body[:20], body[20:])) + b"0\r\n\r\n"
    gets = (b"/", b"/model", b"/health/live", b"/health/ready", b"/metrics", b"/openapi.json", b"/docs", b"/nothing")
    return [
        *[b"GET " + path + b" HTTP/1.1\r\nHost: service\r\n\r\n" for path in gets],
        b"HEAD /model HTTP/1.1\r\nHost: service\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: service\r\nOrigin: http://elsewhere\r\n\r\n",
        b"GET /health/live HTTP/1.0\r\n\r\n",
        b"DELETE /classify HTTP/1.1\r\nHost: service\r\nContent-Length: 3\r\n\r\nabc",
        post(image(RED)),
        post(image(RED), b"Connection: close"),
        post(body, path=b"/classify?top_k=2", content_type=b""),
        post(chunked, b"Transfer-Encoding: chunked"),
        post(chunked[:-2] + b"X-Trailer: a\r\n\r\n", b"Transfer-Encoding: chunked", b"Trailer: X-Trailer"),
        post(body, b"Expect: 100-continue"),
        post(form, content_type=FORM),
        post(many, path=b"/classify/batch", content_type=FORM),
        post(image(RED)) + post(image(BLUE)) + b"GET /model HTTP/1.1\r\nHost: service\r\n\r\n",
    ]


def volley(requests: list[bytes], rng: random.Random, connections: int = 24) -> list[Line]:
    return [_line(_mutated(requests, rng), rng) for _ in range(connections)]


def fire(port: int, lines: list[Line]) -> Counter[int]:
    """Send all of them side by side. Returns how often each status came back."""
    statuses: Counter[int] = Counter()
    with selectors.DefaultSelector() as selector:
        for line in lines:
            connection = socket.create_connection(("127.0.0.1", port), timeout=30)
            connection.setblocking(False)
            selector.register(connection, selectors.EVENT_READ | selectors.EVENT_WRITE, _Talk(line))
        end = time.monotonic() + _MOST_S
        while selector.get_map() and time.monotonic() < end:
            _turn(selector, statuses)
        for key in list(selector.get_map().values()):
            _leave(selector, key, statuses)
    return statuses


def to_json(lines: list[Line]) -> str:
    """One line of text for each."""
    return "\n".join(
        json.dumps([line.ending, *(base64.b64encode(piece).decode() for piece in line.pieces)]) for line in lines
    )


def from_json(text: str) -> list[Line]:
    """The reverse."""
    rows = [json.loads(row) for row in text.splitlines()]
    return [Line(tuple(map(base64.b64decode, pieces)), ending) for ending, *pieces in rows]


class _Talk:
    def __init__(self, line: Line) -> None:
        self.line, self.left = line, list(line.pieces)
        self.heard = b""
        self.last = time.monotonic()


def _turn(selector: selectors.BaseSelector, statuses: Counter[int]) -> None:
    for key, events in selector.select(_QUIET_S):
        try:
            heard_all = bool(events & selectors.EVENT_READ) and not _hear(key)
            if not heard_all and events & selectors.EVENT_WRITE and key.data.left:
                _say(selector, key)
        except (BlockingIOError, InterruptedError):
            continue
        except OSError:
            heard_all = True
        if heard_all:
            _leave(selector, key, statuses)
    now = time.monotonic()
    for key in list(selector.get_map().values()):
        hurried = not key.data.left and key.data.line.ending in ("closed", "reset")
        if hurried or now - key.data.last > _QUIET_S:
            _leave(selector, key, statuses)


def _hear(key: selectors.SelectorKey) -> bool:
    """False once the other side has closed."""
    talk, connection = key.data, key.fileobj
    assert isinstance(connection, socket.socket)
    received = connection.recv(1 << 16)
    talk.heard, talk.last = talk.heard + received, time.monotonic()
    return bool(received)


def _say(selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
    talk, connection = key.data, key.fileobj
    assert isinstance(connection, socket.socket)
    rest = talk.left[0][connection.send(talk.left[0]) :]
    talk.left = [rest, *talk.left[1:]] if rest else talk.left[1:]
    talk.last = time.monotonic()
    if not talk.left:
        selector.modify(connection, selectors.EVENT_READ, talk)
        if talk.line.ending == "half closed":
            connection.shutdown(socket.SHUT_WR)


def _leave(selector: selectors.BaseSelector, key: selectors.SelectorKey, statuses: Counter[int]) -> None:
    connection = key.fileobj
    assert isinstance(connection, socket.socket)
    selector.unregister(connection)
    if key.data.line.ending == "reset":
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    statuses.update(int(status) for status in _STATUS.findall(key.data.heard))


def _mutated(requests: list[bytes], rng: random.Random) -> bytes:
    request = rng.choice(requests)
    for _ in range(rng.choice((0, 1, 1, 2, 4))):
        kind = rng.random()
        if kind < 0.4:
            at = rng.randrange(len(request) + 1)
            request = request[:at] + rng.choice(_WORDS) + request[at + rng.choice((0, 0, 1, 8)) :]
        elif kind < 0.6:  # a header more
            first, mark, rest = request.partition(b"\r\n")
            request = first + mark + rng.choice(_WORDS) + rest
        elif kind < 0.7:
            request += rng.choice(requests)
        else:
            request = spoiled(request, rng.choice(requests), rng)
    return request


def _line(request: bytes, rng: random.Random) -> Line:
    cuts = sorted(rng.randrange(len(request) + 1) for _ in range(rng.choice((0, 0, 1, 3))))
    ends = [*cuts, len(request)]
    pieces = [request[start:end] for start, end in zip([0, *cuts], ends, strict=True)]
    return Line(tuple(piece for piece in pieces if piece), rng.choice(ENDINGS))
