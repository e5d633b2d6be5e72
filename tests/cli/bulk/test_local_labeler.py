"""Batches to whoever is free, outcomes in order, and never more of them under way than there is room for."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import aclosing

import pytest

from cli.bulk.entries import Entry, Ready
from cli.bulk.local_labeler import LocalLabeler
from cli.bulk.outcomes import Failure, Outcome
from cli.bulk.processes import Answering


def answer(batch: Sequence[Ready]) -> list[Outcome]:
    return [Failure("told", entry.name) for entry in batch]


def entries(count: int, taken: list[int] | None = None) -> Iterator[Entry]:
    for at in range(count):
        if taken is not None:
            taken.append(at)
        yield Entry(str(at), b"")


async def test_outcomes_are_in_order_whoever_is_faster() -> None:
    second_is_done = threading.Event()

    def slow(batch: Sequence[Ready]) -> list[Outcome]:
        second_is_done.wait(10)
        return answer(batch)

    def fast(batch: Sequence[Ready]) -> list[Outcome]:
        second_is_done.set()
        return answer(batch)

    labeler = LocalLabeler(Answering([slow, fast], {"name": "fake"}))
    found = [(name, outcome) async for name, outcome in labeler.outcomes(entries(100))]
    assert found == [(str(at), Failure("told", str(at))) for at in range(100)]


async def test_a_bounded_number_of_entries_is_taken_before_outcomes_are() -> None:
    taken: list[int] = []
    labeler = LocalLabeler(Answering([answer], {}))
    async with aclosing(labeler.outcomes(entries(10_000, taken))) as outcomes:
        for _ in range(160):
            await anext(outcomes)
        assert len(taken) <= 160 + 16 * 4


async def test_large_pictures_go_in_small_batches() -> None:
    sizes: list[int] = []

    def count(batch: Sequence[Ready]) -> list[Outcome]:
        sizes.append(len(batch))
        return answer(batch)

    large = (Entry(str(at), bytes(5 << 20)) for at in range(4))
    labeler = LocalLabeler(Answering([count], {}))
    assert [name async for name, _ in labeler.outcomes(large)] == ["0", "1", "2", "3"]
    assert sizes == [2, 2]


async def test_what_a_source_raises_comes_behind_the_outcomes_before_it() -> None:
    def failing() -> Iterator[Entry]:
        yield from entries(20)
        raise OSError("gone")

    outcomes = LocalLabeler(Answering([answer], {})).outcomes(failing())
    found = [name for name, _ in [await anext(outcomes) for _ in range(16)]]
    with pytest.raises(OSError, match="gone"):
        await anext(outcomes)
    assert found == [str(at) for at in range(16)]


async def test_what_an_answer_raises_is_raised() -> None:
    def failing(batch: Sequence[Ready]) -> list[Outcome]:
        raise RuntimeError(f"{len(batch)} are too many")

    with pytest.raises(RuntimeError, match="16 are too many"):
        _ = [name async for name, _ in LocalLabeler(Answering([failing], {})).outcomes(entries(16))]
