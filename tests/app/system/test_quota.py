"""One limit for all processes: never exceeded, all or none, and what one gives back another may take."""

import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.system.quota import Quota
from tests.app.servers import PATIENCE_S, ROOT, clean_environment


def quotas(limit: int, processes: int) -> list[Quota]:
    """Those of all processes, seen from one."""
    shares = memoryview(bytearray(8 * processes)).cast("d")
    return [Quota(limit, shares, own) for own in range(processes)]


def test_one_process_may_have_all_of_it_and_not_one_more() -> None:
    quota = Quota(3)
    assert quota.processes == 1
    assert quota.try_take(2)
    assert not quota.try_take(2)
    assert quota.taken == 2
    assert quota.try_take(1)
    assert not quota.try_take(1)
    quota.give(3)
    assert quota.taken == 0
    assert not quota.try_take(4)
    assert quota.try_take(3)


def test_what_one_has_the_others_cannot_have() -> None:
    first, second, third = quotas(10, 3)
    assert first.processes == 3
    assert first.try_take(6)
    assert second.try_take(3)
    assert not third.try_take(2)
    assert third.try_take(1)
    assert [quota.taken for quota in (first, second, third)] == [10, 10, 10]
    second.give(3)
    assert first.try_take(3)
    assert not second.try_take(1)


steps = st.lists(st.tuples(st.integers(0, 2), st.booleans(), st.integers(0, 6)), max_size=60)


@settings(deadline=None)
@given(st.integers(1, 12), steps)
def test_alone_whoever_fits_is_let_in_and_whoever_does_not_changes_nothing(
    limit: int, history: list[tuple[int, bool, int]]
) -> None:
    shared, held = quotas(limit, 3), [0, 0, 0]
    for number, takes, count in history:
        if takes:
            fits = sum(held) + count <= limit
            assert shared[number].try_take(count) == fits
            held[number] += count * fits
        else:
            given = min(count, held[number])
            shared[number].give(given)
            held[number] -= given
        assert {quota.taken for quota in shared} == {sum(held)}


class Interrupted(list[float]):
    """Numbers at each of which another thread has its turn."""

    def __getitem__(self, at: Any) -> Any:
        number = super().__getitem__(at)
        time.sleep(0)
        return number

    def __setitem__(self, at: Any, number: Any) -> None:
        time.sleep(0)
        super().__setitem__(at, number)

    def __iter__(self) -> Iterator[float]:
        numbers = list(super().__iter__())
        time.sleep(0)
        return iter(numbers)


@pytest.mark.parametrize("processes", [1, 4])
def test_threads_never_have_more_than_the_limit_between_them(processes: int) -> None:
    shares: Any = Interrupted([0.0] * processes)
    shared, count = [Quota(5, shares, own) for own in range(processes)], 8
    barrier, guard = threading.Barrier(count), threading.Lock()
    held, most, successes = 0, 0, 0

    def visit(number: int) -> None:
        nonlocal held, most, successes
        quota, rng = shared[number % processes], random.Random(number)
        barrier.wait(PATIENCE_S)
        for _ in range(200):
            wanted = rng.randint(1, 3)
            if not quota.try_take(wanted):
                continue
            with guard:
                held += wanted
                most = max(most, held)
                successes += 1
            with guard:
                held -= wanted
            quota.give(wanted)

    threads = [threading.Thread(target=visit, args=[number]) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert 0 < most <= 5
    assert successes > count
    assert shared[0].taken == 0


_FORKED = """
import mmap, os, signal, time
from app.system.quota import Quota

LIMIT, WANTED, LONG_S = 3, 2, 1.0  # only one of them fits at a time
shares, inside = (memoryview(mmap.mmap(-1, 16)).cast("d") for _ in range(2))
ready = memoryview(mmap.mmap(-1, 16)).cast("d")

def visit(own):
    quota, let_in, exceeded = Quota(LIMIT, shares, own), 0, 0
    ready[own] = 1
    while not ready[1 - own]:
        pass
    until = time.monotonic() + LONG_S
    while time.monotonic() < until:
        if quota.try_take(WANTED):
            inside[own] = WANTED  # after it was taken and until it is given back, so never more than that
            exceeded += any(sum(inside) > LIMIT for _ in range(5))
            let_in += 1
            inside[own] = 0
            quota.give(WANTED)
    os.write(1, f"{own} {let_in > 0} {exceeded}\\n".encode())

child = os.fork()
signal.alarm(60)  # a failed test leaves none behind
visit(0 if child else 1)
if child:
    os.waitpid(child, 0)
    os.write(1, f"left {sum(shares)}\\n".encode())
"""


@pytest.mark.process
def test_two_processes_that_come_at_the_same_time_never_have_more_than_the_limit() -> None:
    finished = subprocess.run(
        [sys.executable, "-c", _FORKED], cwd=ROOT, env=clean_environment(), capture_output=True, check=True, text=True
    )
    *visits, left = finished.stdout.splitlines()
    assert sorted(visits) == ["0 True 0", "1 True 0"]
    assert left == "left 0.0"
