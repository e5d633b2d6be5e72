"""Who decodes pictures: threads for that, or, where the picture is small, the thread that runs it, just before the run.

A hop between threads and the event loop costs as much as a small picture does; decoded with its run, it takes two less.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from app.decoding.cost_checks import TakesLong
from app.decoding.decoder import DecodeLimits
from app.engine.runners import Patches
from app.system.threads import Threads, UnderWay

_SMALL_BYTES = 100_000
_WORK = 250_000  # pixels of a PNG: a hundredth of a second
_MOST_S = 0.05  # processor time of a run's pictures, after which threads decode the others
_JPEG, _JPEG_END, _AT_THE_END = b"\xff\xd8\xff", b"\xff\xd9", -64  # cameras write a few bytes behind it
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_SIDES = slice(16, 24)  # width and height, in the first chunk
_PNG_BYTES, _PNG_HEAD_BYTES = 8, 4096  # of a pixel at most, and of what is not pixels
_MOST_PLACES = 64  # of threads that the supervisor is told of


class Undecoded:
    """A picture file that has a place in a batch.

    work: makes patches of the file and tells in how many seconds, as long as that takes no more than so many pixels of
    a PNG do. overrun: is told, in the event loop, of the error of one that does not end. answer: nobody waits for the
    picture any more once this is done.
    """

    __slots__ = ("answer", "decode_s", "overrun", "patches", "payload", "work")

    def __init__(
        self,
        payload: bytes,
        work: Callable[[bytes, float], tuple[Patches, float]],
        overrun: Callable[["Undecoded", Exception], None],
    ) -> None:
        self.payload, self.work, self.overrun = payload, work, overrun
        self.patches: Patches | None = None
        self.decode_s = 0.0
        self.answer: asyncio.Future[Any] | None = None


def is_soon_decoded(payload: bytes) -> bool:
    """Whether a file looks as if: a small whole JPEG, or a small PNG of few pixels and of little else."""
    if len(payload) > _SMALL_BYTES:
        return False
    if payload.startswith(_PNG):
        sides = payload[_PNG_SIDES]
        pixels = int.from_bytes(sides[:4], "big") * int.from_bytes(sides[4:], "big")
        is_small = pixels <= _WORK and len(payload) <= _PNG_BYTES * pixels + _PNG_HEAD_BYTES
        return is_small and not (b"zTXt" in payload or b"iTXt" in payload or b"iCCP" in payload)  # which unfold
    return payload.startswith(_JPEG) and _JPEG_END in payload[_AT_THE_END:]


class Decoding:
    """What all classifiers of a process share: `count` threads that decode pictures, and the limits of that.

    Knows what is being decoded, there and in the threads of runs.
    """

    def __init__(self, count: int, limits: DecodeLimits) -> None:
        self.threads = Threads(count, "decode")
        self.limits = limits
        self.limits_in_runs = replace(limits, waits=False)
        self._in_runs: dict[int, tuple[float, Undecoded]] = {}  # by thread, and since when
        self._places: dict[int, int] = {}  # of such threads
        self._tell: Callable[[int, int], object] | None = None

    def decode(self, picture: Undecoded, spent_s: float) -> Patches:
        """Its patches, in the thread of a run that has decoded for so long. Raises what decoding raises.

        TakesLong where a thread that decodes is to do it, or nobody.
        """
        if picture.patches is None:
            if spent_s > _MOST_S or (picture.answer is not None and picture.answer.done()):
                raise TakesLong
            thread = threading.get_ident()
            place = self._places.get(thread) or self._place_of(thread)
            self._in_runs[thread] = time.monotonic(), picture
            if self._tell is not None:
                self._tell(place, threading.get_native_id())
            try:
                picture.patches, picture.decode_s = picture.work(picture.payload, _WORK)
            finally:
                if self._tell is not None:
                    self._tell(place, 0)
                del self._in_runs[thread]
        return picture.patches

    def _place_of(self, thread: int) -> int:
        if len(self._places) >= _MOST_PLACES:  # a reload brings others
            self._places = {}
        return self._places.setdefault(thread, len(self._places) + 1)

    def tell_threads(self, tell: Callable[[int, int], object]) -> None:
        """Tell, whenever the thread of a run begins to decode, what the system calls it, and 0 once it has.

        tell: called in that thread, with a number from 1 to 64 of its own.
        """
        self._tell = tell

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
