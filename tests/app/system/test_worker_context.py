"""Where a worker stands: what workers say of themselves on one board, and read there of the others."""

import pytest

from app.system.shared_memory import Board
from app.system.worker_context import Post


def posts(count: int) -> list[Post]:
    """Those of all workers, seen from one process."""
    board = Board(count + 1)
    return [Post(number, board, lifeline=-1) for number in range(count)]


def test_a_service_of_one_process_has_nobody_beside_it() -> None:
    post = Post()
    post.beat()
    post.hold(7)
    post.complain("The canary is ill.")
    assert (post.number, post.lifeline) == (0, None)
    assert (post.held_by_others(), list(post.complaints())) == ([], [])


def test_the_connections_of_others_count_while_they_are_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("app.system.worker_context.time.monotonic", lambda: now)
    first, second, third = posts(3)
    for post, connections in ((first, 1), (second, 2), (third, 3)):
        post.hold(connections)
    assert first.held_by_others() == []  # nobody has shown a pulse
    first.beat()
    second.beat()
    now = 1001.0
    third.beat()
    assert (first.held_by_others(), second.held_by_others()) == ([2, 3], [1, 3])
    now = 1002.5
    assert (first.held_by_others(), third.held_by_others()) == ([3], [])


@pytest.mark.parametrize(
    ("own", "others", "too_many"),
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
    own: int, others: list[int], too_many: int
) -> None:
    first, *rest = posts(1 + len(others))
    first.hold(own)
    for post, connections in zip(rest, others, strict=True):
        post.hold(connections)
        post.beat()
    assert first.too_many() == too_many


def test_all_have_begun_once_each_has_shown_a_pulse_however_long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.system.worker_context.time.monotonic", lambda: 1000.0)
    first, second, third = posts(3)
    second.beat()
    assert not first.all_have_begun()
    third.beat()
    monkeypatch.setattr("app.system.worker_context.time.monotonic", lambda: 5000.0)
    assert first.all_have_begun()
    assert Post().all_have_begun()


def test_a_worker_hears_what_the_others_complain_of() -> None:
    first, second, third = posts(3)
    assert list(first.complaints()) == []
    second.complain("The canary is ill.")
    third.complain("So am I.")
    assert list(first.complaints()) == [(1, "The canary is ill."), (2, "So am I.")]
    assert list(second.complaints()) == [(2, "So am I.")]
    second.complain("")
    assert list(first.complaints()) == [(2, "So am I.")]


def test_a_worker_that_has_been_silent_for_seconds_is_complained_of(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("app.system.worker_context.time.monotonic", lambda: now)
    first, second, third = posts(3)
    now = 1010.0
    assert list(first.complaints()) == []  # they have not begun
    second.beat()
    third.beat()
    now = 1014.0
    assert list(first.complaints()) == []
    now = 1014.5
    third.complain("I am ill.")
    assert list(first.complaints()) == [(1, "Its event loop has stood still for 4.5 s."), (2, "I am ill.")]
    second.beat()
    assert list(first.complaints()) == [(2, "I am ill.")]


def test_one_that_retires_or_stalls_is_none_of_those_that_serve() -> None:
    first, second, third = posts(3)
    assert not first.others_serve()
    for post, connections in ((second, 2), (third, 3)):
        post.beat()
        post.hold(connections)
    second.retire()
    assert (second.is_retiring(), third.is_retiring()) == (True, False)
    assert (first.others_serve(), first.held_by_others()) == (True, [3])
    third.stall(True)
    assert third.is_stalled()
    assert (first.others_serve(), first.held_by_others()) == (False, [])
    third.stall(False)
    assert (first.others_serve(), first.held_by_all()) == (True, 5)


def test_more_decode_threads_than_there_is_room_for_are_left_out() -> None:
    (post,) = posts(1)
    for ids in ([7, 8, 9], list(range(1, 400)), [5]):
        post.decode_in(ids)
        assert list(post._own.decode_threads) == ids[:256]


def test_what_workers_share_is_bounded_for_all_of_them_together() -> None:
    first, second = posts(2)
    places, same_places = (post.quota("images", 3) for post in (first, second))
    assert (first.workers, places.processes, Post().workers) == (2, 2, 1)
    assert places.try_take(2)
    assert not same_places.try_take(2)
    assert same_places.try_take(1)
    assert (first.quota("upload_bytes", 3).taken, second.quota("decode_bytes", 3).taken) == (0, 0)
    models = first.quota("images", 3)  # one more of the same worker counts in the same place
    models.give(2)
    assert (places.taken, same_places.taken) == (1, 1)


def test_connections_and_handshakes_are_those_of_all_alive_or_not() -> None:
    first, second, alone = *posts(2), Post()
    for post, connections in ((first, 1), (second, 2), (alone, 4)):
        post.hold(connections)
        post.opens(3)
        post.opens(-1)
    assert [post.held_by_all() for post in (first, second, alone)] == [3, 3, 4]
    assert [post.opened_by_all() for post in (first, second, alone)] == [4, 4, 2]
