"""What is timed: how much work each piece says it did, and how many of them go on at once."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from app.engine.runners import Outputs, Patches
from cli.bench.ceilings import Classifying, Decoding, Running, classifyings, decodings, doublings, runnings
from cli.bench.rig import Opened, Split

FILES = [b"\0", b"\1", b"\2"]


def decode(payload: bytes) -> Patches:
    return np.full((4, 3), payload[0], dtype=np.uint8)


class FakeEngine:
    """Notes the pictures of every batch, and how many batches were inside at once."""

    def __init__(self, meeting: threading.Barrier | None = None) -> None:
        self.batches: list[list[int]] = []
        self.inside = self.most_inside = 0
        self._lock = threading.Lock()
        self._meeting = meeting

    def run(self, patches: Sequence[Patches]) -> Outputs:
        with self._lock:
            self.inside += 1
            self.most_inside = max(self.most_inside, self.inside)
        if self._meeting is not None:
            self._meeting.wait()
        with self._lock:
            self.inside -= 1
        self.batches.append([int(one[0, 0]) for one in patches])
        return Outputs(np.zeros((len(patches), 2), dtype=np.float32))

    def opened(self, instances: int = 2, threads: int = 1) -> Opened:
        return Opened("int8", Split(instances, threads), self.run)


@pytest.mark.parametrize(
    ("most", "expected"), [(1, [1]), (2, [1, 2]), (32, [1, 2, 4, 8, 16, 32]), (12, [1, 2, 4, 8, 12])]
)
def test_doublings_end_in_what_was_asked_for(most: int, expected: list[int]) -> None:
    assert doublings(most) == expected


def test_decoding_is_timed_in_up_to_a_thread_for_each_cpu() -> None:
    candidates = decodings(FILES, decode, 4)
    assert [(one.key, one.threads) for one in candidates] == [
        (Decoding(1), 1), (Decoding(2), 2), (Decoding(4), 4),
    ]  # fmt: skip


def test_decoding_takes_the_pictures_in_turn_one_by_one() -> None:
    seen: list[bytes] = []

    def noted(payload: bytes) -> Patches:
        seen.append(payload)
        return decode(payload)

    (candidate,) = decodings(FILES, noted, 1)
    assert [candidate.work() for _ in range(4)] == [1, 1, 1, 1]
    assert seen == [*FILES, FILES[0]]


def test_the_model_runs_batches_that_are_full_of_pictures_in_as_many_threads_as_instances() -> None:
    engine = FakeEngine()
    candidates = runnings(engine.opened(instances=3, threads=2), [decode(file) for file in FILES], [1, 2, 4])
    assert [(one.key, one.threads) for one in candidates] == [
        (Running("int8", 3, 2, batch_size), 3) for batch_size in (1, 2, 4)
    ]
    assert [one.work() for one in candidates] == [1, 2, 4]
    assert engine.batches == [[0], [0, 1], [0, 1, 2, 0]]


def test_classifying_decodes_a_batch_and_runs_it_in_a_thread_for_each_cpu() -> None:
    engine = FakeEngine()
    candidates = classifyings(engine.opened(instances=2, threads=2), FILES, decode, 4, (1, 2))
    assert [(one.key, one.threads) for one in candidates] == [
        (Classifying("int8", 2, 2, 1), 4), (Classifying("int8", 2, 2, 2), 4),
    ]  # fmt: skip
    assert [one.work() for one in candidates] == [1, 2]
    assert engine.batches == [[0], [1, 2]]


def test_no_more_runs_go_on_at_once_than_there_are_instances() -> None:
    """Two must be inside before either leaves, so that there really are two; a third would be seen."""
    engine = FakeEngine(threading.Barrier(2, timeout=10))
    (candidate,) = classifyings(engine.opened(instances=2), FILES, decode, 6, (1,))
    work: Any = candidate.work
    with ThreadPoolExecutor(candidate.threads) as pool:
        assert sum(pool.map(lambda _: work(), range(6))) == 6
    assert engine.most_inside == 2


def test_more_instances_than_cpus_are_all_used() -> None:
    (candidate,) = classifyings(FakeEngine().opened(instances=8), FILES, decode, 4, (1,))
    assert candidate.threads == 8
