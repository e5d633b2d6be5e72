"""Who decodes pictures: threads for that, or, where the picture is small, the thread that runs it, just before the run.

A hop between threads and the event loop costs as much as a small picture does; decoded with its run, it takes two less.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

from app.decoding.decoder import DecodeLimits
from app.engine.runners import Patches
from app.system.threads import Threads, UnderWay

_SMALL_BYTES = 100_000
_WORK = 250_000  # pixels of a PNG: a hundredth of a second at worst, which others in its run wait
_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_MOST_RUN_THREADS = 16  # a reload brings others
_PNG_SIDES = slice(16, 24)  # width and height, in the first chunk


class Undecoded:
    """A picture file that has a place in a batch.

    work: makes patches of the file and tells in how many seconds, as long as that takes no more than so many pixels of
    a PNG do. overrun: is told, in the event loop, of the error of one that does not end.
    """

    __slots__ = ("decode_s", "overrun", "patches", "payload", "work")

    def __init__(
        self,
        payload: bytes,
        work: Callable[[bytes, float], tuple[Patches, float]],
        overrun: Callable[["Undecoded", Exception], None],
    ) -> None:
        self.payload, self.work, self.overrun = payload, work, overrun
        self.patches: Patches | None = None
        self.decode_s = 0.0


def is_soon_decoded(payload: bytes) -> bool:
    """Whether a file looks as if: a small JPEG, or a small PNG of few pixels."""
    if len(payload) > _SMALL_BYTES:
        return False
    if payload.startswith(_PNG):
        sides = payload[_PNG_SIDES]
        return int.from_bytes(sides[:4], "big") * int.from_bytes(sides[4:], "big") <= _WORK
    return payload.startswith(_JPEG)


class Decoding:
    """What all classifiers of a process share: `count` threads that decode pictures, and the limits of that.

    Knows what is being decoded, there and in the threads of runs.
    """

    def __init__(self, count: int, limits: DecodeLimits) -> None:
        self.threads = Threads(count, "decode")
        self.limits = limits
        self._in_runs: dict[int, tuple[float, Undecoded]] = {}  # by thread, and since when
        self._run_threads: deque[int] = deque(maxlen=_MOST_RUN_THREADS)  # what the system calls them
        self._tell: Callable[[list[int]], object] = lambda native_ids: None

    def decode(self, picture: Undecoded) -> Patches:
        """Its patches, in the thread of a run. Raises what decoding raises; TakesLong where a thread is to do it."""
        if picture.patches is None:
            thread, native_id = threading.get_ident(), threading.get_native_id()
            if native_id not in self._run_threads:
                self._run_threads.append(native_id)
                self._tell(self.native_ids())
            self._in_runs[thread] = time.monotonic(), picture
            try:
                picture.patches, picture.decode_s = picture.work(picture.payload, _WORK)
            finally:
                del self._in_runs[thread]
        return picture.patches

    def native_ids(self) -> list[int]:
        """What the system calls the threads that decode, and those of runs that have."""
        return [*self.threads.native_ids(), *self._run_threads]

    def tell_threads(self, tell: Callable[[list[int]], object]) -> None:
        """Tell of these now, and whenever there is one more."""
        self._tell = tell
        tell(self.native_ids())

    def under_way(self) -> Iterator[UnderWay]:
        """What is being decoded."""
        yield from self.threads.under_way()
        if in_runs := dict(self._in_runs):
            threads = {thread.ident: thread for thread in threading.enumerate()}
            for number, (began, picture) in in_runs.items():
                if number in threads:
                    yield UnderWay(-number, threads[number], began, len(picture.payload))

    def abandon(self, found: UnderWay, error: Exception) -> None:
        """Answer this one with `error`, if it is still being decoded. In the event loop only."""
        if found.number >= 0:
            self.threads.abandon(found, error)
            return
        began, picture = self._in_runs.get(-found.number, (None, None))
        if picture is not None and began == found.began:
            picture.overrun(picture, error)

    def stalled_s(self) -> float:
        """For how many seconds each thread for that has been in one picture; 0 where any is free."""
        return self.threads.stalled_s()

    def close(self) -> None:
        """Let the threads end."""
        self.threads.stop()
