"""An instance does all of its work in one thread, and hands back what came of it."""

import gc
import threading

import pytest

from app.engine.instance import InstanceThread


def test_all_calls_are_made_by_the_same_thread_and_not_by_the_callers() -> None:
    instance = InstanceThread("gpu")
    seen: list[str] = []
    callers = [
        threading.Thread(target=lambda: seen.append(instance.call(threading.current_thread).name)) for _ in range(4)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    own = instance.call(threading.current_thread)
    assert own is instance.call(threading.current_thread)
    assert own is not threading.current_thread()
    assert own.daemon
    assert seen == ["gpu"] * 4


def test_arguments_go_in_and_the_outcome_comes_back() -> None:
    assert InstanceThread("gpu").call(lambda *numbers, factor: factor * sum(numbers), 1, 2, factor=10) == 30


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt("stop"), StopIteration("end")])
def test_an_error_belongs_to_the_caller_and_the_instance_lives_on(error: BaseException) -> None:
    def fail() -> None:
        raise error

    instance = InstanceThread("gpu")
    with pytest.raises(type(error), match=str(error)):
        instance.call(fail)
    assert instance.call(lambda: 7) == 7


def test_its_thread_ends_with_it() -> None:
    instance = InstanceThread("gpu")
    thread = instance.call(threading.current_thread)
    del instance
    gc.collect()
    thread.join(60)
    assert not thread.is_alive()
