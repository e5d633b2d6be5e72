"""What a request leaves behind: nothing that only the garbage collector finds, and so no body that waits for it."""

import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.app.color_bundle import RED, image
from tests.app.servers import Server, altered, until
from tests.faults.hostile import noise, saved
from tests.faults.test_hostile_clients import hang_up, say_goodbye
from tests.faults.wire import FORM, Reader, batch, metric, part, post

pytestmark = pytest.mark.process

BEGUN = "now nothing is collected"
FOUND = r"left behind:(.*)"
AGAIN = 10

# SIGUSR1: from now on whatever only the collector finds is kept. SIGUSR2: say what that is.
NOTING = """
import gc
from collections import Counter

def begin(*_):
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    say("now nothing is collected")

def end(*_):
    gc.collect()
    found = Counter(type(one).__name__ for one in gc.garbage)
    gc.set_debug(0)
    gc.garbage.clear()
    say("left behind:", *(f"{name} x {count}" for name, count in found.most_common(8)))

def altered(worker, engine, create):
    signal.signal(signal.SIGUSR1, begin)
    signal.signal(signal.SIGUSR2, end)
    return create()
"""

IMAGE, LARGE = image(RED), saved(noise(), "PNG")
CUT = LARGE[: len(LARGE) // 2]
FORM_END = b"--XX--\r\n"

ASKED = {
    "a picture": post(IMAGE),
    "a large picture": post(LARGE),
    "a form": post(part(LARGE) + FORM_END, content_type=FORM),
    "a picture that is cut off": post(CUT),
    "a form with one": post(part(CUT) + FORM_END, content_type=FORM),
    "text": post(b"no picture" * 1000),
    "a type that is not accepted": post(IMAGE, content_type=b"text/plain"),
    "a form without a boundary": post(part(IMAGE), content_type=b"multipart/form-data"),
    "a form that breaks off": post(part(IMAGE), content_type=FORM),
    "a batch, good and bad": batch(IMAGE, CUT, b"text", IMAGE),
    "a batch of nothing": batch(),
    "no time": post(IMAGE, b"X-Request-Timeout-Ms: 0.001"),
    "a wrong parameter": post(IMAGE, path=b"/classify?top_k=x"),
    "a question": b"GET /model HTTP/1.1\r\nHost: service\r\n\r\n",
    "no such path": b"GET /nothing HTTP/1.1\r\nHost: service\r\n\r\n",
}


@pytest.fixture(scope="module")
def noting(bundle: Path) -> Iterator[Server]:
    """One process, with a canary that does not come meanwhile."""
    with altered(NOTING, bundle, "--workers", "1", "--canary-interval-s", "3600") as running:
        running.wait_until_serving()
        yield running


def left_behind(server: Server, do: Callable[[], None]) -> str:
    """What `do` leaves, when it is not done for the first time."""
    do()
    server.signal(signal.SIGUSR1)
    count = server.lines.count(BEGUN + "\n") + 1
    server.wait_for(BEGUN, count)
    for _ in range(AGAIN):
        do()
    until(lambda: metric(server, "mixer_in_flight") == 0)
    server.signal(signal.SIGUSR2)
    return server.wait_for(FOUND, count)[-1].strip()


@pytest.mark.parametrize("request_bytes", ASKED.values(), ids=ASKED.keys())
def test_an_answer_leaves_nothing_on_a_connection_that_goes_on(request_bytes: bytes, noting: Server) -> None:
    with noting.connect() as connection:

        def ask() -> None:
            connection.sendall(request_bytes)
            assert Reader(connection).answer().status

        assert left_behind(noting, ask) == ""


def _asked_and_closed(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(post(LARGE))
        assert Reader(connection).answer().status == 200


def _told_to_close(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(post(CUT, b"Connection: close"))
        assert Reader(connection).answer().status == 400


def _junk(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(b"junk\r\n\r\n")
        assert Reader(connection).answer().status == 400


def _sent_ahead(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(post(IMAGE) * 3)
        reader = Reader(connection)
        assert [reader.answer().status for _ in range(3)] == [200] * 3


def _gone(leave: Callable[[socket.socket], None], length: int) -> Callable[[Server], None]:
    def go(server: Server) -> None:
        connection = server.connect()
        connection.sendall(post(LARGE)[:length])
        leave(connection)
        connection.close()

    return go


ENDED = {
    "asked and closed": _asked_and_closed,
    "told to close": _told_to_close,
    "junk": _junk,
    "sent ahead": _sent_ahead,
    "reset in its head": _gone(hang_up, 20),
    "reset half way": _gone(hang_up, len(LARGE) // 2),
    "reset when all is sent": _gone(hang_up, len(LARGE) * 2),
    "half closed half way": _gone(say_goodbye, len(LARGE) // 2),
    "half closed when all is sent": _gone(say_goodbye, len(LARGE) * 2),
}


@pytest.mark.parametrize("go", ENDED.values(), ids=ENDED.keys())
def test_a_connection_that_has_ended_leaves_nothing(go: Callable[[Server], None], noting: Server) -> None:
    def gone() -> None:
        go(noting)
        until(lambda: metric(noting, "mixer_connections") == 1)  # the one that asks for this

    assert left_behind(noting, gone) == ""
