"""A closed loop in several processes: connections are shared out, all that was seen comes back, and nothing stays."""

import os
import signal
from pathlib import Path
from random import Random

import pytest

from benchmarks.overload import loops
from benchmarks.overload.client import BROKEN
from benchmarks.overload.client_processes import ClientProcesses, shares
from benchmarks.overload.loops import Terms, closed_loop
from benchmarks.overload.processor import Processor
from benchmarks.overload.requests import Request
from benchmarks.overload.test_overload import COAT, answered, toy
from benchmarks.serving.processes import descendants

pytestmark = [pytest.mark.process, pytest.mark.heavy]

TERMS = Terms(seconds=0.5, lead_in_s=0.1, deadline_s=5.0, connections=3, grace_s=0.2)
BAG = Request(COAT.content[:-4] + b"bags", b'"bag"')  # which is answered as a coat: wrongly


@pytest.mark.parametrize(
    ("connections", "processes", "expected"),
    [(8, 1, [8]), (8, 3, [3, 3, 2]), (2, 4, [1, 1]), (256, 4, [64, 64, 64, 64])],
)
def test_connections_are_shared_out_evenly_and_no_process_has_none(
    connections: int, processes: int, expected: list[int]
) -> None:
    assert shares(connections, processes) == expected


def test_several_processes_load_one_service_and_tell_what_they_saw() -> None:
    with toy(lambda body: [answered()]) as port, ClientProcesses(2) as clients:
        seen = clients.closed_loop(port, [COAT], TERMS, 0, [os.getpid()])
        again = clients.closed_loop(port, [BAG], TERMS, 0, most=1)
    assert len(seen) == 2
    assert all(one.latencies_s.size for one in seen)
    assert all(one.answered >= one.latencies_s.size for one in seen)
    assert [(one.wrong, one.failed) for one in seen] == [(0, {}), (0, {})]
    assert all(one.used.client > 0 for one in seen)
    assert seen[0].used.server > 0, "of this process, in which the service runs"
    assert seen[1].used.server == 0
    (alone,) = again
    assert alone.wrong == alone.answered > 0


def test_what_is_not_200_is_counted_by_status() -> None:
    replies = iter([[answered(status=429)], [answered(status=500)]])
    with toy(lambda body: next(replies, [answered()])) as port, ClientProcesses(1) as clients:
        (seen,) = clients.closed_loop(port, [COAT], TERMS, 0)
    assert seen.failed == {429: 1, 500: 1}
    assert seen.wrong == 0


def test_no_process_is_left_afterwards_and_one_that_has_gone_is_told() -> None:
    before = set(descendants(os.getpid()))
    with toy(lambda body: [answered()]) as port, ClientProcesses(1) as clients:
        (process,) = set(descendants(os.getpid())) - before
        os.kill(process, signal.SIGKILL)
        with pytest.raises(OSError, match=rf"client process {process} has ended|Broken pipe"):
            clients.closed_loop(port, [COAT], TERMS, 0)
    assert not Path(f"/proc/{process}").exists()
    assert set(descendants(os.getpid())) <= before


def test_a_closed_loop_ends_where_every_connection_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    class Dead:
        """Every connection breaks while it is asked for."""

        outstanding = 0

        def __init__(self, port: int, heard: loops.Callable[..., object], most_connections: int) -> None:
            self._heard = heard

        def send(self, ticket: object, request: bytes) -> bool:
            self._heard(ticket, BROKEN, b"", b"")
            return True

        def close(self) -> None:
            return None

    monkeypatch.setattr(loops, "Client", Dead)
    observed = closed_loop(1, [COAT], TERMS, Random(0), Processor([]))
    assert [one.status for one in observed.tickets] == [BROKEN] * TERMS.connections
