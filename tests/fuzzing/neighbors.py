"""Clients that ask for good pictures while something else goes on, and how they fared. Knows not what goes on."""

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Self

from tests.fuzzing import seeds  # makes the modules below importable

assert seeds
from tests.app.color_bundle import BLUE, GREEN, RED, image  # noqa: E402
from tests.app.servers import Server  # noqa: E402
from tests.faults.wire import Answer, Reader, post  # noqa: E402

_PAUSE_S = 0.01  # between an answer and the next question of a client
_REFUSED = (429, 503)
_GOOD = [(label, post(image(color))) for label, color in (("red", RED), ("green", GREEN), ("blue", BLUE))]
_ALIVE = b"GET /health/live HTTP/1.1\r\nHost: service\r\n\r\n"


@dataclass
class Fared:
    """What became of good pictures: right, refused (429 or 503), wrong, late, lost; and the longest waits, in seconds.

    `worst_live_s`: for /health/live, which waits for nothing but the event loop and the processor.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    worst_s: float = 0.0
    worst_live_s: float = 0.0

    def add(self, other: "Fared") -> None:
        self.outcomes.update(other.outcomes)
        self.worst_s = max(self.worst_s, other.worst_s)
        self.worst_live_s = max(self.worst_live_s, other.worst_live_s)

    @property
    def bad(self) -> int:
        """Answers that nobody should get, whatever else goes on."""
        return sum(self.outcomes[name] for name in ("wrong", "late", "lost"))


class Neighbors:
    """`count` clients, each with a connection of its own and one question at a time, and one that asks for life."""

    def __init__(self, server: Server, count: int, deadline_s: float) -> None:
        self._server, self._deadline_s = server, deadline_s
        self._lock = threading.Lock()
        self._fared = Fared()
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._ask_on, args=(number,)) for number in range(count)]
        self._threads.append(threading.Thread(target=self._look_on))

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def since_last(self) -> Fared:
        """How they have fared since this was called before."""
        with self._lock:
            fared, self._fared = self._fared, Fared()
        return fared

    def _ask_on(self, number: int) -> None:
        link = _Link(self._server)
        while not self._stopped.wait(_PAUSE_S):
            label, request = _GOOD[number % len(_GOOD)]
            number += 1
            answer, took_s = link.ask(request)
            with self._lock:
                self._fared.outcomes[self._outcome(answer, label, took_s)] += 1
                self._fared.worst_s = max(self._fared.worst_s, took_s)
        link.close()

    def _outcome(self, answer: Answer, label: str, took_s: float) -> str:
        if answer.status in _REFUSED:
            return "refused"
        if answer.status == 504 or took_s > self._deadline_s:
            return "late"
        if answer.status == 0:
            return "lost"
        return "right" if answer.status == 200 and answer.label == label else "wrong"

    def _look_on(self) -> None:
        link = _Link(self._server)
        while not self._stopped.wait(_PAUSE_S):
            _, took_s = link.ask(_ALIVE)
            with self._lock:
                self._fared.worst_live_s = max(self._fared.worst_live_s, took_s)
        link.close()


class _Link:
    """A connection that is made again once the service has ended it."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._open()

    def ask(self, request: bytes) -> tuple[Answer, float]:
        """The answer, and after how many seconds."""
        started = time.monotonic()
        try:
            self._connection.sendall(request)
            answer = self._reader.answer()
        except OSError:
            answer = Answer(0, b"")
        took_s = time.monotonic() - started
        if answer.status == 0 or self._reader.closes:
            self.close()
            self._open()
        return answer, took_s

    def close(self) -> None:
        self._connection.close()

    def _open(self) -> None:
        self._connection = self._server.connect()
        self._reader = Reader(self._connection)
