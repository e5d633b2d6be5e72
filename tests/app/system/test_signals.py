"""A stop signal tells the service first, and then whatever handled it before. SIGHUP waits until somebody listens."""

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from app.system.signals import exit_when_told, first_telling, hang_ups_noted, hearing_hang_ups, put_off
from tests.app.servers import PATIENCE_S
from tests.app.virtual_time import clock_at, in_virtual_time


@pytest.fixture
def heard() -> Iterator[list[str]]:
    """What was heard; the handler that was there before notes "before"."""
    told: list[str] = []
    previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in previous:
        signal.signal(number, lambda *_: told.append("before"))
    yield told
    for number, handler in previous.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_listener_hears_a_stop_signal_before_the_handler_that_was_there(
    number: signal.Signals, heard: list[str]
) -> None:
    with first_telling(lambda: heard.append("listener")):
        signal.raise_signal(number)
        assert heard == ["listener", "before"]
    signal.raise_signal(number)
    assert heard == ["listener", "before", "before"]


def test_handlers_are_put_back_when_something_fails_inside(heard: list[str]) -> None:
    with pytest.raises(ZeroDivisionError), first_telling(lambda: heard.append("listener")):
        raise ZeroDivisionError
    signal.raise_signal(signal.SIGTERM)
    assert heard == ["before"]


def test_a_signal_that_was_ignored_before_only_reaches_the_listener(heard: list[str]) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with first_telling(lambda: heard.append("listener")):
        signal.raise_signal(signal.SIGTERM)
    assert heard == ["listener"]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN


@pytest.mark.usefixtures("heard")  # which puts the handlers back
@pytest.mark.parametrize(("once", "endings"), [(True, 1), (False, 3)])
def test_what_is_told_to_stop_exits_each_time_or_once(once: bool, endings: int) -> None:
    exit_when_told(once=once)
    codes = []
    for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM):
        try:
            signal.raise_signal(number)
        except SystemExit as ended:
            codes.append(ended.code)
    assert codes == [0] * endings


class Heard:
    """What was heard, and an event for each time that something is."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self._came = asyncio.Condition()
        self._notes: set[asyncio.Task[None]] = set()

    def __call__(self, word: str) -> None:
        self._notes.add(asyncio.get_running_loop().create_task(self._note(word)))

    async def _note(self, word: str) -> None:
        async with self._came:
            self.words.append(word)
            self._came.notify_all()

    async def wait_for(self, *words: str) -> None:
        async with asyncio.timeout(PATIENCE_S), self._came:
            await self._came.wait_for(lambda: self.words == list(words))


@pytest.fixture
async def told() -> AsyncIterator[Heard]:
    """What is told in an event loop; the handler that was there before tells "before"."""
    heard = Heard()
    previous = signal.signal(signal.SIGTERM, lambda *_: heard("before"))
    yield heard
    signal.signal(signal.SIGTERM, previous)


async def test_a_stop_signal_that_is_put_off_is_noticed_first_and_handled_later(told: Heard) -> None:
    with put_off(0.01, lambda: told("noticed")):
        signal.raise_signal(signal.SIGTERM)
        await told.wait_for("noticed", "before")


@in_virtual_time
async def test_a_second_stop_signal_is_not_put_off(heard: list[str]) -> None:
    with put_off(3600, lambda: heard.append("noticed")):
        signal.raise_signal(signal.SIGTERM)
        await clock_at(1)
        assert heard == ["noticed"]
        signal.raise_signal(signal.SIGTERM)
        await clock_at(1)
        assert heard == ["noticed", "before"]


@in_virtual_time
async def test_a_stop_signal_that_comes_twice_within_a_second_is_put_off_as_one(heard: list[str]) -> None:
    with put_off(3, lambda: heard.append("noticed")):
        for at in (0, 0.02, 0.99):
            await clock_at(at)
            signal.raise_signal(signal.SIGTERM)
        await clock_at(2.99)
        assert heard == ["noticed"]
        await clock_at(3)
        assert heard == ["noticed", "before"]


@in_virtual_time
async def test_another_stop_signal_within_a_second_is_a_second_one(heard: list[str]) -> None:
    with put_off(3600, lambda: heard.append("noticed")):
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        await clock_at(0)
        assert heard == ["noticed", "before"]


async def test_what_is_put_off_is_forgotten_at_the_end(told: Heard) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with put_off(0.01, lambda: told("noticed")):
        signal.raise_signal(signal.SIGTERM)
        await told.wait_for("noticed")
    assert signal.getsignal(signal.SIGTERM) is before
    passed = asyncio.Event()
    asyncio.get_running_loop().call_later(0.1, passed.set)  # after what was put off would have come
    await passed.wait()
    assert told.words == ["noticed"]


def test_outside_the_main_thread_nothing_is_touched(heard: list[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    inside: list[object] = []

    def work() -> None:
        with first_telling(lambda: heard.append("listener")):
            inside.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(30)
    assert inside == [before]


# --- SIGHUP ---


@pytest.fixture
def disconnects() -> Iterator[list[str]]:
    """One entry for each SIGHUP that reached the handler that was there before."""
    told: list[str] = []
    previous = signal.signal(signal.SIGHUP, lambda *_: told.append("hang-up"))
    yield told
    signal.signal(signal.SIGHUP, previous)


def test_a_hang_up_waits_until_somebody_listens(disconnects: list[str]) -> None:
    heard: list[str] = []
    with hang_ups_noted():
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGHUP)
        assert (heard, disconnects) == ([], [])
        with hearing_hang_ups(lambda: heard.append("reload")):
            assert heard == ["reload"]  # several are as one
            signal.raise_signal(signal.SIGHUP)
            assert heard == ["reload"] * 2
        signal.raise_signal(signal.SIGHUP)  # nobody listens any more, and it ends nothing
        assert len(heard) == 2
    assert disconnects == []
    signal.raise_signal(signal.SIGHUP)
    assert disconnects == ["hang-up"]


def test_where_none_came_before_none_is_heard(disconnects: list[str]) -> None:
    heard: list[str] = []
    with hang_ups_noted(), hearing_hang_ups(lambda: heard.append("reload")):
        pass
    with hearing_hang_ups(lambda: heard.append("reload")):
        pass
    assert (heard, disconnects) == ([], [])


def test_handlers_of_hang_ups_are_put_back_when_something_fails_inside(disconnects: list[str]) -> None:
    heard: list[str] = []
    with pytest.raises(ZeroDivisionError), hang_ups_noted(), hearing_hang_ups(lambda: heard.append("reload")):
        raise ZeroDivisionError
    signal.raise_signal(signal.SIGHUP)
    assert (heard, disconnects) == ([], ["hang-up"])


def test_outside_the_main_thread_no_hang_up_is_listened_to(disconnects: list[str]) -> None:
    before = signal.getsignal(signal.SIGHUP)
    inside: list[object] = []

    def work() -> None:
        with hearing_hang_ups(lambda: disconnects.append("reload")):
            inside.append(signal.getsignal(signal.SIGHUP))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(30)
    assert inside == [before]
