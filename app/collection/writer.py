"""One thread that does one piece of work after the other, off the way of answers. Knows nothing of what it does.

It is a daemon: work that never ends, as on a disk that hangs, keeps no process from ending.
"""

import logging
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue

Work = Callable[[], None]
LOGGED_S = 60.0  # between two lines about failures

log = logging.getLogger("mixer.collection")


class Writer:
    """A bounded queue in front of a thread. Only the event loop's thread puts into it.

    `idle`: work for when there has been none for `idle_s` seconds, and once at the beginning.
    """

    def __init__(self, most_pieces: int, most_bytes: int, idle: Work, idle_s: float) -> None:
        self._most_pieces, self._most_bytes = most_pieces, most_bytes
        self._idle, self._idle_s = idle, idle_s
        self._queue: SimpleQueue[tuple[Work, int] | None] = SimpleQueue()
        self._put_pieces = self._put_bytes = 0  # each counts up in one thread only
        self._done_pieces = self._done_bytes = 0
        self._logged_at = -LOGGED_S
        self._thread = threading.Thread(target=self._work, name="collection", daemon=True)
        self._thread.start()

    def has_room(self, size_bytes: int) -> bool:
        """Whether one more piece of this size may wait."""
        waiting_bytes = self._put_bytes - self._done_bytes
        is_short = self._put_pieces - self._done_pieces < self._most_pieces
        return is_short and waiting_bytes + size_bytes <= self._most_bytes

    def put(self, work: Work, size_bytes: int) -> None:
        """Have it done when its turn has come; for what has room."""
        self._put_pieces += 1
        self._put_bytes += size_bytes
        self._queue.put((work, size_bytes))

    def close(self, patience_s: float = 2.0) -> None:
        """Finish what waits, as far as that takes no longer."""
        self._queue.put(None)
        self._thread.join(patience_s)

    def _work(self) -> None:
        self._do(self._idle)
        while True:
            try:
                piece = self._queue.get(timeout=self._idle_s)
            except Empty:
                self._do(self._idle)
                continue
            if piece is None:
                return
            work, size_bytes = piece
            del piece
            self._do(work)
            del work
            self._done_pieces += 1
            self._done_bytes += size_bytes

    def _do(self, work: Work) -> None:
        try:
            work()
        except Exception:
            if time.monotonic() - self._logged_at >= LOGGED_S:
                self._logged_at = time.monotonic()
                log.exception("the folder of kept pictures cannot be used; said once a minute")
