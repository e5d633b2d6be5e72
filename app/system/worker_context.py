"""Where a worker stands among the others: what it says of itself on the board, and what it reads there of them.

Knows nothing of processes.
"""

import math
import time
from collections.abc import Iterator, Sequence
from typing import Literal, get_args

from app.system.quota import Quota
from app.system.shared_memory import Board, Row

RESTARTS = '["mixer_worker_restarts"]'
RELOADS_ASKED = '["mixer_reloads_asked"]'
Shared = Literal["images", "upload_bytes", "decode_bytes"]  # what the workers have limits of together
_UNEVEN, _UNEVEN_SHARE = 4, 0.2  # more connections than the average that are no harm, or a share of one's own
_ALIVE_S = 2.0  # a worker that has been silent longer is not waited for
_SILENT_S = 4.0  # and one that has been silent for so long serves nobody
_DECODE_THREADS = 256  # of a worker, whose processor time the supervisor can see


class Post:
    """Where a worker stands: its number, the board it writes on, and a pipe that ends when its supervisor does.

    A service of one process has a board to itself, and no supervisor.
    """

    def __init__(self, number: int = 0, board: Board | None = None, lifeline: int | None = None) -> None:
        self.number, self.lifeline = number, lifeline
        self.board = board or Board()
        rows = self.board.rows()
        self._own = Vitals(rows[number])
        self._others = {} if lifeline is None else {n: Vitals(row) for n, row in enumerate(rows[:-1]) if n != number}
        self._asking = [(row, row.place(RELOADS_ASKED)) for row in rows]
        self._shares = Shares(rows[-1], max(1, len(rows) - 1))
        self._supervisors = None if lifeline is None else rows[-1]

    @property
    def workers(self) -> int:
        """How many there are, this one included."""
        return self._shares.workers

    def quota(self, what: Shared, limit: int) -> Quota:
        """What all workers together may have of something."""
        return Quota(limit, self._shares.of(what), self.number)

    def beat(self) -> None:
        """Say that the event loop goes round."""
        self._own.pulse = time.monotonic()

    def hold(self, connections: int) -> None:
        """Say how many connections are open."""
        self._own.connections = connections

    @property
    def connections(self) -> int:
        """How many are open."""
        return self._own.connections

    def retire(self) -> None:
        """Say that this worker is about to end, and is not to be given anything new."""
        self._own.retiring = True

    def is_retiring(self) -> bool:
        """Whether it has said so."""
        return self._own.retiring

    def stall(self, is_so: bool) -> None:
        """Say whether this worker classifies nothing for the time being."""
        self._own.stalled = is_so

    def is_stalled(self) -> bool:
        """Whether it said so last."""
        return self._own.stalled

    def others_serve(self) -> bool:
        """Whether another worker was alive a moment ago, classifies, and is to stay."""
        return bool(self.held_by_others())

    def decode_in(self, native_ids: Sequence[int]) -> None:
        """Say in which threads pictures are decoded, as the system calls them. What is too many is left out."""
        self._own.decode_threads = native_ids

    def held_by_others(self) -> list[int]:
        """How many connections each of the other workers has that were alive a moment ago, and serve."""
        since = time.monotonic() - _ALIVE_S
        serving = (other for other in self._others.values() if not (other.retiring or other.stalled))
        return [other.connections for other in serving if other.pulse > since]

    def opens(self, change: int) -> None:
        """So many more connections, or fewer, are being opened: their clients agree on a key."""
        self._own.opening += change

    def held_by_all(self) -> int:
        """How many connections all workers have, alive or not: one that hangs keeps its own."""
        return self._own.connections + sum(other.connections for other in self._others.values())

    def opened_by_all(self) -> int:
        """How many more are being opened."""
        return self._own.opening + sum(other.opening for other in self._others.values())

    def too_many(self) -> int:
        """How many connections more than its share this worker has; 0 where that is next to nothing."""
        others = self.held_by_others()
        more = self._own.connections - math.ceil((self._own.connections + sum(others)) / (len(others) + 1))
        return more if others and more > max(_UNEVEN, _UNEVEN_SHARE * self._own.connections) else 0

    def all_have_begun(self) -> bool:
        """Whether each of the other workers has been at work, or is."""
        return all(other.pulse for other in self._others.values())

    def is_anew(self) -> bool:
        """Whether the service has been started, and no worker replaced yet."""
        row = self._supervisors
        return row is None or not row.numbers[row.place(RESTARTS)]

    def complain(self, words: str) -> None:
        """Say what is wrong with this worker; nothing where nothing is."""
        self._own.row.say(words)

    def complaints(self) -> Iterator[tuple[int, str]]:
        """The numbers of the other workers that complain, or have been silent for seconds, with words."""
        now = time.monotonic()
        for number, other in self._others.items():
            if words := other.row.said():
                yield number, words
            elif other.pulse and now - other.pulse > _SILENT_S:
                yield number, f"Its event loop has stood still for {now - other.pulse:.1f} s."

    def ask_for_reload(self) -> None:
        """Ask all workers."""
        row, at = self._asking[self.number]
        row.numbers[at] += 1

    def reloads_asked(self) -> int:
        """How often one was asked for, of whichever process."""
        return int(sum(row.numbers[at] for row, at in self._asking))

    def reloaded(self, asked: int, refused: int) -> None:
        """Say up to which `reloads_asked` this worker has followed, and how many bundles it refused the last time."""
        self._own.refused = refused
        self._own.reloaded = asked

    def reloads_of_others(self) -> dict[int, tuple[int, int]]:
        """The same of the other workers that were alive a moment ago, by number."""
        since = time.monotonic() - _ALIVE_S
        return {n: (other.reloaded, other.refused) for n, other in self._others.items() if other.pulse > since}


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
