"""Worker processes: forked, watched, replaced when they die or hang, told to stop. Knows nothing of what they do.

They are forked from a process that has loaded everything and started nothing: no thread, no event loop, no session. So
a new one is there in a fraction of a second, and they share what they do not change.
"""

import logging
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, NoReturn, get_args

from app.board import Board, Row
from app.errors import StartError
from app.quota import Quota

STOPPING = (signal.SIGTERM, signal.SIGINT)
_WATCHED = {*STOPPING, signal.SIGHUP, signal.SIGCHLD}
_RELOADS_ASKED = '["mixer_reloads_asked"]'
Shared = Literal["images", "upload_bytes", "decode_bytes"]  # what the workers have limits of together
_UNEVEN, _UNEVEN_SHARE = 4, 0.2  # more connections than the average that are no harm, or a share of one's own
_TICK_S = 0.5  # between looks at the pulses
_PAUSE_S = 1.0  # before a worker that died young is replaced
_YOUNG_S = 5.0
_ALIVE_S = 2.0  # a worker that has been silent longer is not waited for
_START_S = 900.0  # for the first pulse: a large model comes from a slow disk, TensorRT builds an engine
_START_PULSES = 20  # where `pulse_s` is so long that this is more

log = logging.getLogger("mixer.workers")


class Post:
    """Where a worker stands: its number, the board it writes on, and a pipe that ends when its supervisor does.

    A service of one process has a board to itself, and no supervisor.
    """

    def __init__(self, number: int = 0, board: Board | None = None, lifeline: int | None = None) -> None:
        self.number, self.lifeline = number, lifeline
        self.board = board or Board()
        rows = self.board.rows()
        self._own = _Vitals(rows[number])
        self._others = {} if lifeline is None else {n: _Vitals(row) for n, row in enumerate(rows[:-1]) if n != number}
        self._asking = [(row, row.place(_RELOADS_ASKED)) for row in rows]
        self._shares = _Shares(rows[-1], max(1, len(rows) - 1))
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

    def held_by_others(self) -> list[int]:
        """How many connections each of the other workers has that were alive a moment ago."""
        since = time.monotonic() - _ALIVE_S
        return [other.connections for other in self._others.values() if other.pulse > since]

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
        return row is None or not row.numbers[row.place(_RESTARTS)]

    def complain(self, words: str) -> None:
        """Say what is wrong with this worker; nothing where nothing is."""
        self._own.row.say(words)

    def complaints(self) -> Iterator[tuple[int, str]]:
        """The numbers of the other workers that complain, with their words."""
        for number, other in self._others.items():
            if words := other.row.said():
                yield number, words

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


class _Vitals:
    """What a worker's row says of the worker itself. The supervisor makes room for it before the worker starts."""

    def __init__(self, row: Row) -> None:
        self.row = row
        self._pulse, self._connections = row.place('["mixer_pulse"]'), row.place('["mixer_connections"]')
        self._opening = row.place('["mixer_connections_opening"]')
        self._reloaded, self._refused = row.place('["mixer_reloaded"]'), row.place('["mixer_refused"]')
        row.place(_RELOADS_ASKED)

    def forget(self) -> None:
        """Its process has ended, and with it whatever it held."""
        self.pulse = self.connections = self.opening = 0
        self.row.say("")

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


class _Shares:
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


@dataclass
class _Worker:
    number: int
    pid: int
    started: float
    killed: bool = False


class WorkerFailed(StartError):
    """A worker could not start; the words are its own."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # of the class, in all others


_RESTARTS = '["mixer_worker_restarts"]'


class Supervisor:
    """Keeps `count` processes doing `work`. The board has a row for each, and one more for the supervisor itself.

    `grace_s`: how long they may take to stop. `pulse_s`: how long one may be silent before it is replaced; before its
    first pulse that is 15 minutes, or 20 times `pulse_s`. `on_stop`: called when it is told to stop, before they are.

    Raises: StartError where `count` is not known yet.
    """

    def __init__(
        self,
        work: Callable[[Post], int],
        count: int,
        *,
        grace_s: float,
        pulse_s: float,
        on_stop: Callable[[], object] = lambda: None,
    ) -> None:
        if count < 1:
            raise StartError(f"The workers to start are {count}; expected at least 1, as app.plan chooses for 0.")
        self._work = work
        self._on_stop = on_stop
        self._grace_s = grace_s
        self._pulse_s = pulse_s
        self._board = Board(count + 1)
        self._vitals = [_Vitals(self._board.row(number)) for number in range(count)]
        self._own = self._board.row(count)
        self._restarts, self._reloads = self._own.place(_RESTARTS), self._own.place(_RELOADS_ASKED)
        self._shares = _Shares(self._own, count)
        self._workers: dict[int, _Worker] = {}
        self._due: dict[int, float] = {}  # when a worker that died young is replaced, by number
        self._count = count
        self._stop_by: float | None = None
        self._exit_code = 0
        self._failure: WorkerFailed | None = None
        self._lifeline = os.pipe()

    def run(self) -> int:
        """Until told to stop. Returns the worst exit code of the workers.

        Raises: WorkerFailed where they cannot start.
        """
        with _signals_held():
            for number in range(self._count):
                self._start(number)
            while self._workers or self._due:
                told = signal.sigtimedwait(_WATCHED, self._until_next_look_s())
                if told is not None and told.si_signo != signal.SIGCHLD:
                    self._pass_on(told.si_signo)
                self._reap()
                self._look_after()
        if self._failure is not None:
            raise self._failure
        return self._exit_code

    def _until_next_look_s(self) -> float:
        """A tick, or less where a worker is due before."""
        return max(0.0, min([_TICK_S, *(at - time.monotonic() for at in self._due.values())]))

    def _start(self, number: int) -> None:
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            self._be_a_worker(number)
        self._workers[pid] = _Worker(number, pid, time.monotonic())

    def _be_a_worker(self, number: int) -> NoReturn:
        code = 1
        try:
            os.close(self._lifeline[1])
            os.setpgid(0, 0)  # a terminal's Ctrl-C is for the supervisor: one more from here would be the second
            for told in _WATCHED:
                signal.signal(told, signal.SIG_DFL)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the supervisor asks for what it means, on the board
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
            post = Post(number, self._board, self._lifeline[0])
            code = self._work(post)
        except StartError as error:
            post.complain(str(error))
            code = error.exit_code
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
        except BaseException:
            log.exception("worker %d failed", number)
        finally:
            sys.stderr.flush()
            os._exit(code)

    def _pass_on(self, number: int) -> None:
        """A stop signal begins the end, and reaches the workers; a SIGINT after it hurries them. SIGHUP: all reload."""
        if number not in STOPPING:
            self._own.numbers[self._reloads] += 1
            return
        if self._stop_by is None:
            self._stop_by = time.monotonic() + self._grace_s
            self._due.clear()
            self._on_stop()
        for pid in self._workers:
            os.kill(pid, number)

    def _reap(self) -> None:
        for pid in list(self._workers):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                self._ended(self._workers.pop(pid), os.waitstatus_to_exitcode(status))

    def _ended(self, worker: _Worker, code: int) -> None:
        vitals = self._vitals[worker.number]
        words, ever_worked = vitals.row.said(), vitals.pulse > 0
        vitals.forget()
        self._shares.take_back(worker.number)
        if self._stop_by is not None:
            self._exit_code = max(self._exit_code, 0 if -code in STOPPING else abs(code))
        elif not ever_worked and code > 0 and not self._own.numbers[self._restarts]:
            self._exit_code = max(self._exit_code, code)  # it could not start: nor can the others
            self._failure = WorkerFailed(words, code) if words else None
            self._pass_on(signal.SIGTERM)
        else:
            self._replace(worker, code)

    def _replace(self, worker: _Worker, code: int) -> None:
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        log.error("worker %d (process %d) %s, and is replaced", worker.number, worker.pid, how)
        self._own.numbers[self._restarts] += 1
        young = time.monotonic() - worker.started < _YOUNG_S
        self._due[worker.number] = time.monotonic() + (_PAUSE_S if young else 0.0)

    def _look_after(self) -> None:
        """Start whoever is due, end whoever hangs or takes too long to stop."""
        now = time.monotonic()
        for worker in list(self._workers.values()):
            if not worker.killed and self._hangs(worker, now):
                log.error("worker %d (process %d) hangs, and is killed", worker.number, worker.pid)
                os.kill(worker.pid, signal.SIGKILL)
                worker.killed = True  # on a dead disk that may take any time
        for number in [number for number, at in self._due.items() if at <= now]:
            del self._due[number]
            self._start(number)

    def _hangs(self, worker: _Worker, now: float) -> bool:
        if self._stop_by is not None:
            return now > self._stop_by
        pulse = self._vitals[worker.number].pulse
        if not pulse:
            return now - worker.started > max(_START_S, _START_PULSES * self._pulse_s)
        return now - pulse > self._pulse_s


@contextmanager
def _signals_held() -> Iterator[None]:
    """What is watched waits until it is asked for, here and in a child until it lets it through."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
