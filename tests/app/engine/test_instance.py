"""An instance does all of its work in one thread, and hands back what came of it."""

import gc
import threading
import time
import weakref

import pytest

from app.engine.instance import Instance
from tests.app.color_bundle import color_spec
from tests.app.fakes import FakeRunner

SPEC = color_spec(canary=None)


@pytest.fixture
def instance() -> Instance:
    return Instance(FakeRunner)


def test_its_runner_is_made_and_all_calls_are_made_by_the_same_thread(instance: Instance) -> None:
    seen: list[threading.Thread] = []
    callers = [threading.Thread(target=lambda: seen.append(instance.call(threading.current_thread))) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert isinstance(instance.runner, FakeRunner)
    assert set(seen) == {instance.runner.made_in}
    assert instance.runner.made_in is not threading.current_thread()
    assert instance.runner.made_in.daemon


def test_arguments_go_in_and_the_outcome_comes_back(instance: Instance) -> None:
    assert instance.call(lambda *numbers, factor: factor * sum(numbers), 1, 2, factor=10) == 30


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt("stop"), StopIteration("end")])
def test_an_error_belongs_to_the_caller_and_the_instance_lives_on(instance: Instance, error: BaseException) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error), match=str(error)):
        instance.call(fail)
    assert instance.call(lambda: 7) == 7


def test_a_runner_that_cannot_be_made_is_the_makers_error() -> None:
    def make() -> FakeRunner:
        raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        Instance(make)


def test_it_says_for_how_long_it_has_been_at_its_work(instance: Instance) -> None:
    begun, may_end = threading.Event(), threading.Event()
    assert instance.busy_s() == 0
    told = threading.Event()
    instance.submit(lambda: (begun.set(), may_end.wait(60)) and told.set)
    begun.wait(60)
    time.sleep(0.01)
    assert instance.busy_s() >= 0.01
    may_end.set()
    told.wait(60)
    assert instance.busy_s() == 0  # it tells once it is free


def test_its_thread_ends_with_it(instance: Instance) -> None:
    lone = Instance(FakeRunner)
    thread, runner = lone.call(threading.current_thread), weakref.ref(lone.runner)
    del lone
    gc.collect()
    thread.join(60)
    assert not thread.is_alive()
    assert runner() is None
