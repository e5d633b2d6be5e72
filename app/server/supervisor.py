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
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn

from app.errors import StartError
from app.server.restarts import OFTEN, End, Restarts, Starts, WorkerFailed, end_of, how_it_ended
from app.system.shared_memory import SharedMemory
from app.system.signals import STOPPING, held
from app.system.stalls import Stall
from app.system.worker_context import WorkerContext
from app.system.worker_status import DOWN, OVERRUNS, RELOADS_ASKED, RESTARTS, Shares, Totals, WorkerStatus

_WATCHED = {*STOPPING, signal.SIGHUP, signal.SIGCHLD}
_TICK_S = 0.5  # between looks at the heartbeats
_PAUSE_S = 1.0  # before a worker that died young is replaced, at first
_YOUNG_S = 5.0

log = logging.getLogger("mixer.workers")


@dataclass
class _Worker:
    number: int
    pid: int
    started: float
    began: float | None = None  # to work
    killed: bool = False
    stall: Stall = field(default_factory=Stall)


class Supervisor:
    """Keeps `count` processes doing `work`. The shared memory has a segment for each, and one for the supervisor.

    `grace_s`: how long they may take to stop. `heartbeat_timeout_s`: how long one may be silent before it is replaced;
    before its first heartbeat that is 15 minutes, or 20 times as long; for one that replaces another, 2 minutes or 20
    times as long as the first start, where that is less. `decode_limit_s`: processor seconds that a thread that decodes
    may take while the event loop stands still. `on_stop`: called when it is told to stop, before they are.

    One that cannot start again is tried again and again as long as another works.

    Raises: StartError where `count` is not known yet.
    """

    def __init__(
        self,
        work: Callable[[WorkerContext], int],
        count: int,
        *,
        grace_s: float,
        heartbeat_timeout_s: float,
        decode_limit_s: float = math.inf,
        on_stop: Callable[[], object] = lambda: None,
    ) -> None:
        if count < 1:
            raise StartError(
                f"The workers to start are {count}; expected at least 1, as app.server.topology chooses for 0."
            )
        self._work, self._on_stop = work, on_stop
        self._grace_s, self._heartbeat_timeout_s = grace_s, heartbeat_timeout_s
        self._decode_limit_s = decode_limit_s
        self._shared_memory = SharedMemory(count + 1)
        self._statuses = [WorkerStatus(self._shared_memory.segment(number)) for number in range(count)]
        own = self._shared_memory.segment(count)
        self._totals, self._shares = Totals(own), Shares(own, count)
        self._attempts = Restarts(count, pause_s=_PAUSE_S, young_s=_YOUNG_S)
        self._starts = Starts(heartbeat_timeout_s)
        self._workers: dict[int, _Worker] = {}
        self._due: dict[int, float] = {}  # when a worker that died young is replaced, by number
        self._count = count
        self._stop_by: float | None = None
        self._exit_code = 0
        self._failure: WorkerFailed | None = None
        self._parent_pipe = os.pipe()

    def run(self) -> int:
        """Until told to stop. Returns the worst exit code of the workers; stop signals are ignored from then on.

        Raises: WorkerFailed where they cannot start, or none can any more.
        """
        with held(_WATCHED):
            for number in range(self._count):
                if self._stop_by is None:
                    self._start(number)
            while self._workers or self._due:
                next_s = min([_TICK_S, *(at - time.monotonic() for at in self._due.values())])
                told = signal.sigtimedwait(_WATCHED, max(0.0, next_s))
                if told is not None and told.si_signo != signal.SIGCHLD:
                    self._pass_on(told.si_signo)
                self._reap()
                self._look_after()
            if self._stop_by is not None:
                for number in STOPPING:  # one that is held now would end this process without its exit code
                    signal.signal(number, signal.SIG_IGN)
        if self._failure is not None:
            raise self._failure
        return self._exit_code

    def _start(self, number: int) -> None:
        sys.stderr.flush()
        try:
            pid = os.fork()
        except OSError as error:
            self._not_forked(number, error)
            return
        if pid == 0:
            self._be_a_worker(number)
        self._workers[pid] = _Worker(number, pid, time.monotonic())

    def _be_a_worker(self, number: int) -> NoReturn:
        code = 1
        try:
            os.close(self._parent_pipe[1])
            os.setpgid(0, 0)  # a terminal's Ctrl-C is for the supervisor: one more from here would be the second
            for told in _WATCHED:
                signal.signal(told, signal.SIG_DFL)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the supervisor asks for what it means, on the shared memory
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
            worker = WorkerContext(number, self._shared_memory, self._parent_pipe[0])
            code = self._work(worker)
        except StartError as error:
            worker.report_failure(str(error))
            code = error.exit_code
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
        except BaseException:
            log.exception("worker %d failed", number)
        finally:
            try:
                signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)  # one more would be raised here, past the end
                logging.shutdown()  # writes what waits
            finally:
                os._exit(code)

    def _pass_on(self, number: int) -> None:
        """A stop signal begins the end, and reaches the workers; a SIGINT after it hurries them. SIGHUP: all reload."""
        if number not in STOPPING:
            self._totals[RELOADS_ASKED] += 1
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

    def _not_forked(self, number: int, error: OSError) -> None:
        how = f"cannot be forked: {error.strerror}"
        if self._totals[RESTARTS]:
            log.error("worker %d %s", number, how)
            self._try_again(number, End(None, how, 1, OFTEN))
        else:
            self._fail(WorkerFailed(f"Worker {number} {how}.", 1))

    def _ended(self, worker: _Worker, code: int) -> None:
        status = self._statuses[worker.number]
        words, ever_worked = status.segment.message(), status.heartbeat > 0
        if ever_worked and worker.began is None:
            worker.began = time.monotonic()
        status.forget()
        self._shares.take_back(worker.number)
        if self._stop_by is not None:
            self._exit_code = max(self._exit_code, 0 if -code in STOPPING else abs(code))
        elif not ever_worked and code > 0 and not self._totals[RESTARTS]:
            self._exit_code = max(self._exit_code, code)  # it could not start: nor can the others
            self._failure = WorkerFailed(words, code) if words else None
            self._pass_on(signal.SIGTERM)
        else:
            self._replace(worker, code, words)

    def _replace(self, worker: _Worker, code: int, words: str) -> None:
        log.error("worker %d (process %d) %s, and is replaced", worker.number, worker.pid, how_it_ended(code))
        self._totals[RESTARTS] += 1
        worked_s = None if worker.began is None else time.monotonic() - worker.began
        self._try_again(worker.number, end_of(code, words, worked_s, was_killed=worker.killed))

    def _try_again(self, number: int, end: End) -> None:
        """After a pause; or end, where nobody works and nobody can start."""
        self._due[number] = time.monotonic() + self._attempts.ended(number, end)
        words = self._attempts.words(number)
        self._statuses[number].report_failure(words)
        if words:
            log.error("worker %d: %s", number, words)
        if self._attempts.are_all_lost() and not any(status.heartbeat for status in self._statuses):
            code = self._attempts.exit_code(number)
            self._fail(WorkerFailed(f"No worker can start again. Worker {number}: {words}", code))

    def _fail(self, failure: WorkerFailed) -> None:
        self._exit_code, self._failure = max(self._exit_code, failure.exit_code), failure
        self._pass_on(signal.SIGTERM)

    def _look_after(self) -> None:
        """Start the workers that are due, kill those that hang or take too long to stop."""
        now = time.monotonic()
        for worker in list(self._workers.values()):
            if not worker.killed and self._hangs(worker, now):
                log.error("worker %d (process %d) hangs, and is killed", worker.number, worker.pid)
                os.kill(worker.pid, signal.SIGKILL)
                worker.killed = True  # on a dead disk that may take any time
            elif worker.began is None:
                self._look_at_start(worker, now)
        self._totals[DOWN] = sum(bool(status.segment.message()) and not status.heartbeat for status in self._statuses)
        for number in [number for number, at in self._due.items() if at <= now]:
            if self._due.pop(number, None) is not None:  # an attempt may be the last of all
                self._start(number)

    def _hangs(self, worker: _Worker, now: float) -> bool:
        if self._stop_by is not None:
            return now > self._stop_by
        heartbeat = self._statuses[worker.number].heartbeat
        if not heartbeat:
            return now - worker.started > self._starts.limit_s()
        return now - heartbeat > self._heartbeat_timeout_s or self._decodes_for_too_long(worker, now - heartbeat)

    def _look_at_start(self, worker: _Worker, now: float) -> None:
        status = self._statuses[worker.number]
        if status.heartbeat:
            worker.began = now
            self._starts.took(status.heartbeat - worker.started)
            if status.segment.message() == status.failure:
                status.report_failure("")
        elif not status.failure and now - worker.started > (late_s := self._starts.late_s()):
            status.report_failure(f"It has not started within {late_s:.0f} s.")

    def _decodes_for_too_long(self, worker: _Worker, silent_s: float) -> bool:
        """Whether a decoder keeps the interpreter's lock: then the worker cannot see that itself."""
        threads = self._statuses[worker.number].decode_threads
        spent_s = worker.stall.spent_while_still_s(silent_s, worker.pid, threads)
        if spent_s <= self._decode_limit_s:
            return False
        self._totals[OVERRUNS] += 1
        log.error(
            "worker %d (process %d): a picture has been decoded for %.1f s of processor time, of %g s that it may "
            "take, and its event loop has stood still for %.1f s",
            worker.number, worker.pid, spent_s, self._decode_limit_s, silent_s,
        )  # fmt: skip
        return True
