"""A closed loop shared out to client processes, for a service that one client cannot keep busy.

Each process is a client of its own (client.py) with its share of the connections. It is started once and does one load
after another: loads come on its standard input, what it saw goes out on its standard output, both pickled. It ends
when its input does, so none outlives the process that started it. Knows nothing of what the figures mean.
"""

import os
import pickle
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import IO, Self

import numpy as np
from numpy.typing import NDArray

from benchmarks.overload.loops import Observed, Terms, closed_loop
from benchmarks.overload.processor import Processor, Used
from benchmarks.overload.requests import RIGHT_STATUS, Request

ROOT = Path(__file__).resolve().parent.parent.parent
_COMMAND = "from benchmarks.overload.client_processes import work; work()"
_PATIENCE_S = 10.0


@dataclass(frozen=True)
class Share:
    """What one process is to do. `server`: the processes whose processor time it notes, too."""

    port: int
    requests: tuple[Request, ...]
    terms: Terms
    seed: int
    server: tuple[int, ...] = ()


@dataclass(frozen=True)
class Seen:
    """What one process saw. `latencies_s`: of the 200s that came in its window, which was `seconds` long.

    Of the whole load, `answered`: 200s; `wrong`: those with another label; `failed`: other statuses (0: no answer).
    `used`: CPUs.
    """

    seconds: float
    latencies_s: NDArray[np.float64]
    answered: int
    wrong: int
    failed: dict[int, int]
    used: Used


class ClientProcesses:
    """`count` of them, to be used in a `with`; they are gone after it."""

    def __init__(self, count: int) -> None:
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH", "")])])
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-c", _COMMAND],
                env={**os.environ, "PYTHONPATH": path}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is for the process that ends them
            )
            for _ in range(count)
        ]  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            with suppress(OSError):
                _pipe(process.stdin).close()
        for process in self._processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(_PATIENCE_S)
            process.kill()
            process.wait()
            _pipe(process.stdout).close()

    def closed_loop(
        self,
        port: int,
        requests: Sequence[Request],
        terms: Terms,
        seed: int,
        server: Sequence[int] = (),
        most: int | None = None,
    ) -> list[Seen]:
        """The terms' connections, in `most` of the processes or in all. The first notes the server's processor time.

        Raises: OSError where a process cannot connect, or is gone.
        """
        counts = shares(terms.connections, len(self._processes[:most]))
        used = self._processes[: len(counts)]
        for number, (process, count) in enumerate(zip(used, counts, strict=True)):
            own = replace(terms, connections=count)
            watched = () if number else tuple(server)
            _send(_pipe(process.stdin), Share(port, tuple(requests), own, seed + number, watched))
        found = [_answer(process) for process in used]
        for one in found:
            if isinstance(one, OSError):
                raise one
        return [one for one in found if isinstance(one, Seen)]


def shares(connections: int, processes: int) -> list[int]:
    """How many connections each has, as even as it goes; no process has none."""
    whole, more = divmod(connections, processes)
    return [count for number in range(processes) if (count := whole + (number < more))]


def work() -> None:
    """What a client process does until its input ends."""
    with suppress(EOFError):
        while True:
            share: Share = pickle.load(sys.stdin.buffer)  # noqa: S301 -- from the process that started this one
            _send(sys.stdout.buffer, _done(share))


def _done(share: Share) -> Seen | OSError:
    rng, processor = Random(share.seed), Processor(share.server)
    try:
        return seen(closed_loop(share.port, share.requests, share.terms, rng, processor))
    except OSError as error:
        return error


def seen(observed: Observed) -> Seen:
    """What a closed loop comes to."""
    inside = [one for one in observed.tickets if observed.start <= one.done < observed.end]
    statuses = Counter(one.status for one in observed.tickets)
    return Seen(
        observed.end - observed.start,
        np.array([one.latency_s for one in inside if one.status == RIGHT_STATUS]),
        statuses[RIGHT_STATUS],
        sum(one.status == RIGHT_STATUS and not one.right for one in observed.tickets),
        {status: count for status, count in statuses.items() if status != RIGHT_STATUS},
        observed.used,
    )


def _answer(process: "subprocess.Popen[bytes]") -> object:
    try:
        return pickle.load(_pipe(process.stdout))  # noqa: S301 -- from a process that was started here
    except EOFError:
        return OSError(f"client process {process.pid} has ended; expected what it saw.")


def _send(pipe: IO[bytes], message: object) -> None:
    pickle.dump(message, pipe, protocol=5)
    pipe.flush()


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None, "Popen was told to make it."
    return pipe
