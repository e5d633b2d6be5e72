import asyncio
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pytest

from benchmarks.one_queue.engines import SLOT_BYTES, Engines, Picture, Run
from benchmarks.one_queue.on_a_gpu import Stages, simulated


def lengths() -> Run:
    """Tells who it is and how long each picture is."""
    return lambda pictures: [(os.getpid(), len(one), type(one).__name__) for one in pictures]


@contextmanager
def engines(count: int, depth: int = 1, most: int = 4) -> Iterator[Engines]:
    made = Engines(count, depth, most, lengths, shares_out=False)
    try:
        yield made
    finally:
        made.close()


def test_each_picture_of_a_batch_has_its_answer_in_order() -> None:
    with engines(1) as made:

        async def ask() -> list[object]:
            pixels = np.zeros((3, 2, 1), np.uint8)
            return await made.run([b"12345", pixels, b""])

        pid = made.processes[0]
        assert asyncio.run(ask()) == [(pid, 5, "bytes"), (pid, 3, "ndarray"), (pid, 0, "bytes")]


def test_batches_go_to_who_has_the_fewest_and_slots_come_back() -> None:
    with engines(2, depth=2) as made:

        async def ask() -> set[object]:
            found: set[object] = set()
            for _ in range(50):  # far more than there are slots
                answers = await asyncio.gather(*(made.run([b"a", b"b", b"c", b"d"]) for _ in range(4)))
                assert [len(one) for one in answers] == [4, 4, 4, 4]
                found |= {one[0] for batch in answers for one in batch}  # type: ignore[index]
            return found

        assert asyncio.run(ask()) == set(made.processes)


def test_the_slowest_stage_sets_the_rate() -> None:
    stages = Stages(2, 14, 0.17, 0.02, 2.4, 0.06, 0.5, 0.1, 64)
    rate_s, _, busy = simulated(stages, 256, 3.0)
    assert rate_s == pytest.approx(14 / (2.42 / 1000), rel=0.03)
    assert busy["decoders"] > 0.97
    assert busy["front ends"] < 0.6
    fewer, _, _ = simulated(Stages(1, 14, 0.4, 0.02, 2.4, 0.06, 0.5, 0.1, 64), 256, 3.0)
    assert fewer == pytest.approx(1 / 0.42e-3, rel=0.03)


def test_a_lone_client_waits_for_every_stage() -> None:
    rate_s, p50_ms, _ = simulated(Stages(2, 14, 0.2, 0.05, 2.0, 0.1, 0.5, 0.1, 64), 1, 3.0)
    assert p50_ms == pytest.approx(0.25 + 2.05 + 0.1 + 2 * 0.6, rel=0.1)
    assert rate_s == pytest.approx(1000 / p50_ms, rel=0.1)


def test_a_picture_larger_than_a_slot_is_refused_in_words() -> None:
    with engines(1) as made:

        async def ask() -> Sequence[object]:
            picture: Picture = bytes(SLOT_BYTES + 1)
            return await made.run([picture])

        with pytest.raises(ValueError, match=r"has 4194305 bytes; expected at most 4194\d{3}"):
            asyncio.run(ask())
