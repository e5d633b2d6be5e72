"""A lane does all of its work in one thread, and hands back what came of it."""

import gc
import threading

import pytest

from app.engine.instance import Lane


def test_all_calls_are_made_by_the_same_thread_and_not_by_the_callers() -> None:
    lane = Lane("gpu")
    seen: list[str] = []
    callers = [threading.Thread(target=lambda: seen.append(lane.call(threading.current_thread).name)) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    own = lane.call(threading.current_thread)
    assert own is lane.call(threading.current_thread)
    assert own is not threading.current_thread()
    assert own.daemon
    assert seen == ["gpu"] * 4


def test_arguments_go_in_and_the_outcome_comes_back() -> None:
    assert Lane("gpu").call(lambda *numbers, factor: factor * sum(numbers), 1, 2, factor=10) == 30


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt("stop"), StopIteration("end")])
def test_an_error_belongs_to_the_caller_and_the_lane_lives_on(error: BaseException) -> None:
    def fail() -> None:
        raise error

    lane = Lane("gpu")
    with pytest.raises(type(error), match=str(error)):
        lane.call(fail)
    assert lane.call(lambda: 7) == 7


def test_its_thread_ends_with_it() -> None:
    lane = Lane("gpu")
    thread = lane.call(threading.current_thread)
    del lane
    gc.collect()
    thread.join(60)
    assert not thread.is_alive()
