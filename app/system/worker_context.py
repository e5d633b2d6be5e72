"""Where a worker stands among the others: what it says of itself on the shared memory, and what it reads there of them.

Knows nothing of processes.
"""

import math
import time
from collections.abc import Iterator, Sequence

from app.system.quota import Quota
from app.system.shared_memory import SharedMemory
from app.system.worker_status import RELOADS_ASKED, RESTARTS, Shared, Shares, WorkerStatus

_UNEVEN, _UNEVEN_SHARE = 4, 0.2  # more connections than the average that are no harm, or a share of one's own
_ALIVE_S = 2.0  # a worker that has been silent longer is not waited for
_SILENT_S = 4.0  # and one that has been silent for so long does not serve


class WorkerContext:
    """Where a worker stands: its number, the shared memory it writes on, and a pipe that ends when its supervisor does.

    A service of one process has the memory to itself, and no supervisor.
    """

    def __init__(
        self, number: int = 0, shared_memory: SharedMemory | None = None, parent_pipe: int | None = None
    ) -> None:
        self.number, self.parent_pipe = number, parent_pipe
        self.shared_memory = shared_memory or SharedMemory()
        segments = self.shared_memory.segments()
        self._own = WorkerStatus(segments[number])
        self._others = (
            {}
            if parent_pipe is None
            else {n: WorkerStatus(segment) for n, segment in enumerate(segments[:-1]) if n != number}
        )
        self._asking = [(segment, segment.offset_of(RELOADS_ASKED)) for segment in segments]
        self._shares = Shares(segments[-1], max(1, len(segments) - 1))
        self._supervisors = None if parent_pipe is None else segments[-1]

    @property
    def workers(self) -> int:
        """How many there are, this one included."""
        return self._shares.workers

    def quota(self, what: Shared, limit: int) -> Quota:
        """What all workers together may have of something."""
        return Quota(limit, self._shares.of(what), self.number)

    def heartbeat(self) -> None:
        """Say that the event loop goes round."""
        self._own.heartbeat = time.monotonic()

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

    def decodes_in(self, place: int, native_id: int) -> None:
        """Say that a thread decodes now that does something else otherwise, or with 0 that it does not any more."""
        self._own.decodes_in(place, native_id)

    def held_by_others(self) -> list[int]:
        """How many connections each of the other workers has that were alive a moment ago, and serve."""
        since = time.monotonic() - _ALIVE_S
        serving = (other for other in self._others.values() if not (other.retiring or other.stalled))
        return [other.connections for other in serving if other.heartbeat > since]

    def opens(self, change: int) -> None:
        """`change` more connections, or fewer, are in their TLS handshake."""
        self._own.opening += change

    def held_by_all(self) -> int:
        """How many connections all workers have, alive or not: one that hangs keeps its own."""
        return self._own.connections + sum(other.connections for other in self._others.values())

    def opened_by_all(self) -> int:
        """How many more are being opened."""
        return self._own.opening + sum(other.opening for other in self._others.values())

    def excess_connections(self) -> int:
        """How many connections more than its share this worker has; 0 where that is next to nothing."""
        others = self.held_by_others()
        more = self._own.connections - math.ceil((self._own.connections + sum(others)) / (len(others) + 1))
        return more if others and more > max(_UNEVEN, _UNEVEN_SHARE * self._own.connections) else 0

    def all_have_begun(self) -> bool:
        """Whether each of the other workers has been at work, or is."""
        return all(other.heartbeat for other in self._others.values())

    def is_anew(self) -> bool:
        """Whether the service has been started, and no worker replaced yet."""
        segment = self._supervisors
        return segment is None or not segment.numbers[segment.offset_of(RESTARTS)]

    def report_failure(self, words: str) -> None:
        """Say what is wrong with this worker; nothing where nothing is."""
        self._own.segment.set_message(words)

    def failures(self) -> Iterator[tuple[int, str]]:
        """The numbers of the other workers that complain, or have been silent for seconds, with words."""
        now = time.monotonic()
        for number, other in self._others.items():
            if words := other.segment.message():
                yield number, words
            elif other.heartbeat and now - other.heartbeat > _SILENT_S:
                yield number, f"Its event loop has stood still for {now - other.heartbeat:.1f} s."

    def ask_for_reload(self) -> None:
        """Ask all workers."""
        segment, at = self._asking[self.number]
        segment.numbers[at] += 1

    def reloads_asked(self) -> int:
        """How often one was asked for, of whichever process."""
        return int(sum(segment.numbers[at] for segment, at in self._asking))

    def reloaded(self, asked: int, refused: int) -> None:
        """Say up to which `reloads_asked` this worker has followed, and how many bundles it refused the last time."""
        self._own.refused = refused
        self._own.reloaded = asked

    def reloads_of_others(self) -> dict[int, tuple[int, int]]:
        """The same of the other workers that were alive a moment ago, by number."""
        since = time.monotonic() - _ALIVE_S
        return {n: (other.reloaded, other.refused) for n, other in self._others.items() if other.heartbeat > since}
