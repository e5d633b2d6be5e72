"""Where a worker stands: what workers say of themselves on one board, and read there of the others."""

import pytest

from app.system.shared_memory import SharedMemory
from app.system.worker_context import WorkerContext


def workers(count: int) -> list[WorkerContext]:
    """Those of all workers, seen from one process."""
    shared_memory = SharedMemory(count + 1)
    return [WorkerContext(number, shared_memory, parent_pipe=-1) for number in range(count)]


def test_a_service_of_one_process_has_nobody_beside_it() -> None:
    worker = WorkerContext()
    worker.heartbeat()
    worker.hold(7)
    worker.report_failure("The canary is ill.")
    assert (worker.number, worker.parent_pipe) == (0, None)
    assert (worker.held_by_others(), list(worker.failures())) == ([], [])


def test_the_connections_of_others_count_while_they_are_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("app.system.worker_context.time.monotonic", lambda: now)
    first, second, third = workers(3)
    for worker, connections in ((first, 1), (second, 2), (third, 3)):
        worker.hold(connections)
    assert first.held_by_others() == []  # nobody has shown a heartbeat
    first.heartbeat()
    second.heartbeat()
    now = 1001.0
    third.heartbeat()
    assert (first.held_by_others(), second.held_by_others()) == ([2, 3], [1, 3])
    now = 1002.5
    assert (first.held_by_others(), third.held_by_others()) == ([3], [])


@pytest.mark.parametrize(
    ("own", "others", "excess_connections"),
    [
        (32, [0], 16),
        (17, [15], 0),
        (9, [0], 0),
        (10, [0], 5),
        (0, [32], 0),
        (32, [0, 0, 0], 24),
        (33, [30, 3], 11),
        (32, [], 0),
    ],
)
def test_a_worker_knows_how_many_connections_more_than_its_share_it_has(
    own: int, others: list[int], excess_connections: int
) -> None:
    first, *rest = workers(1 + len(others))
    first.hold(own)
    for worker, connections in zip(rest, others, strict=True):
        worker.hold(connections)
        worker.heartbeat()
    assert first.excess_connections() == excess_connections


def test_all_have_begun_once_each_has_shown_a_pulse_however_long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.system.worker_context.time.monotonic", lambda: 1000.0)
    first, second, third = workers(3)
    second.heartbeat()
    assert not first.all_have_begun()
    third.heartbeat()
    monkeypatch.setattr("app.system.worker_context.time.monotonic", lambda: 5000.0)
    assert first.all_have_begun()
    assert WorkerContext().all_have_begun()


def test_a_worker_hears_what_the_others_complain_of() -> None:
    first, second, third = workers(3)
    assert list(first.failures()) == []
    second.report_failure("The canary is ill.")
    third.report_failure("So am I.")
    assert list(first.failures()) == [(1, "The canary is ill."), (2, "So am I.")]
    assert list(second.failures()) == [(2, "So am I.")]
    second.report_failure("")
    assert list(first.failures()) == [(2, "So am I.")]


def test_a_worker_that_has_been_silent_for_seconds_is_complained_of(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("app.system.worker_context.time.monotonic", lambda: now)
    first, second, third = workers(3)
    now = 1010.0
    assert list(first.failures()) == []  # they have not begun
    second.heartbeat()
    third.heartbeat()
    now = 1014.0
    assert list(first.failures()) == []
    now = 1014.5
    third.report_failure("I am ill.")
    assert list(first.failures()) == [(1, "Its event loop has stood still for 4.5 s."), (2, "I am ill.")]
    second.heartbeat()
    assert list(first.failures()) == [(2, "I am ill.")]


def test_one_that_retires_or_stalls_is_none_of_those_that_serve() -> None:
    first, second, third = workers(3)
    assert not first.others_serve()
    for worker, connections in ((second, 2), (third, 3)):
        worker.heartbeat()
        worker.hold(connections)
    second.retire()
    assert (second.is_retiring(), third.is_retiring()) == (True, False)
    assert (first.others_serve(), first.held_by_others()) == (True, [3])
    third.stall(True)
    assert third.is_stalled()
    assert (first.others_serve(), first.held_by_others()) == (False, [])
    third.stall(False)
    assert (first.others_serve(), first.held_by_all()) == (True, 5)


def test_more_decode_threads_than_there_is_room_for_are_left_out() -> None:
    (worker,) = workers(1)
    for ids in ([7, 8, 9], list(range(1, 400)), [5]):
        worker.decode_in(ids)
        assert list(worker._own.decode_threads) == ids[:256]


def test_what_workers_share_is_bounded_for_all_of_them_together() -> None:
    first, second = workers(2)
    places, same_places = (worker.quota("images", 3) for worker in (first, second))
    assert (first.workers, places.processes, WorkerContext().workers) == (2, 2, 1)
    assert places.try_take(2)
    assert not same_places.try_take(2)
    assert same_places.try_take(1)
    assert (first.quota("upload_bytes", 3).taken, second.quota("decode_bytes", 3).taken) == (0, 0)
    models = first.quota("images", 3)  # one more of the same worker counts in the same place
    models.give(2)
    assert (places.taken, same_places.taken) == (1, 1)


def test_connections_and_handshakes_are_those_of_all_alive_or_not() -> None:
    first, second, alone = *workers(2), WorkerContext()
    for worker, connections in ((first, 1), (second, 2), (alone, 4)):
        worker.hold(connections)
        worker.opens(3)
        worker.opens(-1)
    assert [worker.held_by_all() for worker in (first, second, alone)] == [3, 3, 4]
    assert [worker.opened_by_all() for worker in (first, second, alone)] == [4, 4, 2]
