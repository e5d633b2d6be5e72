"""Segments of the shared memory: a worker's status, its part of shared limits, totals. Knows nothing of processes."""

from collections.abc import Sequence
from typing import Literal, get_args

from app.system.shared_memory import Segment

RESTARTS = '["mixer_worker_restarts"]'
RELOADS_ASKED = '["mixer_reloads_asked"]'
DOWN = '["mixer_workers_down"]'
OVERRUNS = '["mixer_decode_overruns"]'
Shared = Literal["images", "background", "upload_bytes", "decode_bytes"]  # what the workers have limits of together
CONNECTIONS = '["mixer_connections"]'
HEARTBEAT = '["mixer_heartbeat"]'
_DECODE_THREADS = 256  # of a worker, whose processor time the supervisor can see


def name_of_shares(what: Shared) -> str:
    """By which the numbers of `Shares` stand in the supervisor's segment."""
    return f'["mixer_shares_of_{what}"]'


class WorkerStatus:
    """What a worker's segment says of the worker itself. The supervisor makes room for it before the worker starts."""

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self.failure = ""  # of the supervisor's
        self._ready = segment.offset_of('["mixer_ready"]')
        self._heartbeat = segment.offset_of(HEARTBEAT)
        self._connections = segment.offset_of(CONNECTIONS)
        self._opening = segment.offset_of('["mixer_connections_opening"]')
        self._retiring = segment.offset_of('["mixer_retiring"]')
        self._stalled = segment.offset_of('["mixer_stalled"]')
        self._decode_threads = segment.offset_of('["mixer_decode_threads"]', _DECODE_THREADS)
        self._reloaded, self._refused = segment.offset_of('["mixer_reloaded"]'), segment.offset_of('["mixer_refused"]')
        segment.offset_of(RELOADS_ASKED)

    def forget(self) -> None:
        """Its process has ended, and with it whatever it held."""
        self.heartbeat = self.connections = self.opening = 0
        self.retiring, self.stalled, self.decode_threads = False, False, ()
        self.report_failure("")

    def report_failure(self, words: str) -> None:
        """Say for it what is wrong with it, as long as it does not work."""
        self.failure = words
        self.segment.set_message(words)
        if words:
            self.segment.numbers[self._ready] = 0

    @property
    def heartbeat(self) -> float:
        """When its event loop last went round, in seconds of time.monotonic(); 0 where it has not yet."""
        return self.segment.numbers[self._heartbeat]

    @heartbeat.setter
    def heartbeat(self, at: float) -> None:
        self.segment.numbers[self._heartbeat] = at

    @property
    def connections(self) -> int:
        """How many it holds."""
        return int(self.segment.numbers[self._connections])

    @connections.setter
    def connections(self, count: int) -> None:
        self.segment.numbers[self._connections] = count

    @property
    def opening(self) -> int:
        """How many are being opened."""
        return int(self.segment.numbers[self._opening])

    @opening.setter
    def opening(self, count: int) -> None:
        self.segment.numbers[self._opening] = count

    @property
    def retiring(self) -> bool:
        """Whether it is about to end."""
        return bool(self.segment.numbers[self._retiring])

    @retiring.setter
    def retiring(self, is_so: bool) -> None:
        self.segment.numbers[self._retiring] = is_so

    @property
    def stalled(self) -> bool:
        """Whether it classifies nothing for the time being."""
        return bool(self.segment.numbers[self._stalled])

    @stalled.setter
    def stalled(self, is_so: bool) -> None:
        self.segment.numbers[self._stalled] = is_so

    @property
    def decode_threads(self) -> Sequence[int]:
        """What the system calls the threads in which it decodes."""
        at = self._decode_threads
        return [int(number) for number in self.segment.numbers[at : at + _DECODE_THREADS] if number]

    @decode_threads.setter
    def decode_threads(self, native_ids: Sequence[int]) -> None:
        for at in range(_DECODE_THREADS):
            self.segment.numbers[self._decode_threads + at] = native_ids[at] if at < len(native_ids) else 0

    def decodes_in(self, place: int, native_id: int) -> None:
        """One more such thread, in a place of its own at the list's end, from 1 on; 0 where there is none."""
        self.segment.numbers[self._decode_threads + _DECODE_THREADS - place] = native_id

    @property
    def reloaded(self) -> int:
        """Up to which of the reloads asked for it has followed."""
        return int(self.segment.numbers[self._reloaded])

    @reloaded.setter
    def reloaded(self, asked: int) -> None:
        self.segment.numbers[self._reloaded] = asked

    @property
    def refused(self) -> int:
        """How many bundles it refused in the last of them."""
        return int(self.segment.numbers[self._refused])

    @refused.setter
    def refused(self, count: int) -> None:
        self.segment.numbers[self._refused] = count


class Totals:
    """What the supervisor counts for all workers together, in its own segment, by its name there."""

    def __init__(self, segment: Segment) -> None:
        self._numbers = segment.numbers
        self._offsets = {name: segment.offset_of(name) for name in (RESTARTS, RELOADS_ASKED, DOWN, OVERRUNS)}

    def __getitem__(self, name: str) -> float:
        return self._numbers[self._offsets[name]]

    def __setitem__(self, name: str, number: float) -> None:
        self._numbers[self._offsets[name]] = number


class Shares:
    """What each worker has of what they share: a number for each in the supervisor's segment, which only it writes.

    The supervisor makes room for them before any worker starts, and takes back what one that died had.
    """

    def __init__(self, segment: Segment, workers: int) -> None:
        self.workers = workers
        self._numbers = {}
        for what in get_args(Shared):
            at = segment.offset_of(name_of_shares(what), workers)
            self._numbers[what] = segment.numbers[at : at + workers]

    def of(self, what: Shared) -> "memoryview[float]":
        """A number for each worker."""
        return self._numbers[what]

    def take_back(self, worker: int) -> None:
        """Take back the shares of a worker whose process has ended."""
        for numbers in self._numbers.values():
            numbers[worker] = 0
