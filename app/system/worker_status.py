"""A worker's row of the board: what it says of itself, and its part of what all share. Knows nothing of processes."""

from collections.abc import Sequence
from typing import Literal, get_args

from app.system.shared_memory import Row

RESTARTS = '["mixer_worker_restarts"]'
RELOADS_ASKED = '["mixer_reloads_asked"]'
DOWN = '["mixer_workers_down"]'
OVERRUNS = '["mixer_decode_overruns"]'
Shared = Literal["images", "upload_bytes", "decode_bytes"]  # what the workers have limits of together
_DECODE_THREADS = 256  # of a worker, whose processor time the supervisor can see


class Vitals:
    """What a worker's row says of the worker itself. The supervisor makes room for it before the worker starts."""

    def __init__(self, row: Row) -> None:
        self.row = row
        self.complaint = ""  # of the supervisor's
        self._ready = row.place('["mixer_ready"]')
        self._pulse, self._connections = row.place('["mixer_pulse"]'), row.place('["mixer_connections"]')
        self._opening = row.place('["mixer_connections_opening"]')
        self._retiring = row.place('["mixer_retiring"]')
        self._stalled = row.place('["mixer_stalled"]')
        self._decode_threads = row.place('["mixer_decode_threads"]', _DECODE_THREADS)
        self._reloaded, self._refused = row.place('["mixer_reloaded"]'), row.place('["mixer_refused"]')
        row.place(RELOADS_ASKED)

    def forget(self) -> None:
        """Its process has ended, and with it whatever it held."""
        self.pulse = self.connections = self.opening = 0
        self.retiring, self.stalled, self.decode_threads = False, False, ()
        self.complain("")

    def complain(self, words: str) -> None:
        """Say for it what is wrong with it, as long as it does not work."""
        self.complaint = words
        self.row.say(words)
        if words:
            self.row.numbers[self._ready] = 0

    @property
    def pulse(self) -> float:
        """When its event loop last went round, in seconds of time.monotonic(); 0 where it has not yet."""
        return self.row.numbers[self._pulse]

    @pulse.setter
    def pulse(self, at: float) -> None:
        self.row.numbers[self._pulse] = at

    @property
    def connections(self) -> int:
        """How many it holds."""
        return int(self.row.numbers[self._connections])

    @connections.setter
    def connections(self, count: int) -> None:
        self.row.numbers[self._connections] = count

    @property
    def opening(self) -> int:
        """How many are being opened."""
        return int(self.row.numbers[self._opening])

    @opening.setter
    def opening(self, count: int) -> None:
        self.row.numbers[self._opening] = count

    @property
    def retiring(self) -> bool:
        """Whether it is about to end."""
        return bool(self.row.numbers[self._retiring])

    @retiring.setter
    def retiring(self, is_so: bool) -> None:
        self.row.numbers[self._retiring] = is_so

    @property
    def stalled(self) -> bool:
        """Whether it classifies nothing for the time being."""
        return bool(self.row.numbers[self._stalled])

    @stalled.setter
    def stalled(self, is_so: bool) -> None:
        self.row.numbers[self._stalled] = is_so

    @property
    def decode_threads(self) -> Sequence[int]:
        """What the system calls the threads in which it decodes."""
        at = self._decode_threads
        return [int(number) for number in self.row.numbers[at : at + _DECODE_THREADS] if number]

    @decode_threads.setter
    def decode_threads(self, native_ids: Sequence[int]) -> None:
        for at in range(_DECODE_THREADS):
            self.row.numbers[self._decode_threads + at] = native_ids[at] if at < len(native_ids) else 0

    @property
    def reloaded(self) -> int:
        """Up to which of the reloads asked for it has followed."""
        return int(self.row.numbers[self._reloaded])

    @reloaded.setter
    def reloaded(self, asked: int) -> None:
        self.row.numbers[self._reloaded] = asked

    @property
    def refused(self) -> int:
        """How many bundles it refused in the last of them."""
        return int(self.row.numbers[self._refused])

    @refused.setter
    def refused(self, count: int) -> None:
        self.row.numbers[self._refused] = count


class Shares:
    """What each worker has of what they share: a number for each in the supervisor's row, which only it writes.

    The supervisor makes room for them before any worker starts, and takes back what one that died had.
    """

    def __init__(self, row: Row, workers: int) -> None:
        self.workers = workers
        self._numbers = {}
        for what in get_args(Shared):
            at = row.place(f'["mixer_shares_of_{what}"]', workers)
            self._numbers[what] = row.numbers[at : at + workers]

    def of(self, what: Shared) -> "memoryview[float]":
        """A number for each worker."""
        return self._numbers[what]

    def take_back(self, worker: int) -> None:
        """From one whose process has ended."""
        for numbers in self._numbers.values():
            numbers[worker] = 0
