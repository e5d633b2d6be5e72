"""The last sampled request of each bucket, over all processes."""

from itertools import combinations_with_replacement
from types import SimpleNamespace
from typing import Any, cast

from app.system.shared_memory import Segment, SharedMemory
from app.telemetry.exemplars import SUFFIX, Exemplar, Exemplars, newest
from app.telemetry.metrics import Metrics
from app.telemetry.tracing import SpanId

SPAN = SpanId(0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331)
LARGEST = SpanId((1 << 128) - 1, (1 << 64) - 1)


def rows_of(memory: SharedMemory, name: str) -> list[list[float]]:
    return [numbers for segment in memory.segments() for one, numbers in segment.read() if one == name]


def test_ids_come_back_to_the_last_bit() -> None:
    memory = SharedMemory()
    exemplars = Exemplars(memory.segment(0), "seconds", 3)
    for bucket, ident in enumerate((SPAN, LARGEST, SpanId(1, 1))):
        exemplars.set(bucket, bucket / 8, ident)
    found = newest(rows_of(memory, "seconds"), 3)
    assert [(one.ident, one.value) for one in found if one] == [(SPAN, 0.0), (LARGEST, 0.125), (SpanId(1, 1), 0.25)]


def test_a_bucket_without_one_has_none_and_a_later_one_replaces_it() -> None:
    memory = SharedMemory()
    exemplars = Exemplars(memory.segment(0), "seconds", 2)
    exemplars.set(1, 1.0, LARGEST)
    exemplars.set(1, 2.0, SPAN)
    none, found = newest(rows_of(memory, "seconds"), 2)
    assert none is None
    assert found is not None
    assert (found.value, found.ident) == (2.0, SPAN)


def test_of_several_processes_the_newest_counts() -> None:
    memory = SharedMemory(2)
    for process, ident in enumerate((LARGEST, SPAN)):
        Exemplars(memory.segment(process), "seconds", 1).set(0, float(process), ident)
    rows = rows_of(memory, "seconds")
    for ordered in (rows, rows[::-1]):
        (found,) = newest(ordered, 1)
        assert found is not None
        assert found.ident == SPAN


class Watched(list[float]):
    """Numbers, and how they were after each that was written."""

    def __init__(self, size: int) -> None:
        super().__init__([0.0] * size)
        self.states: list[list[float]] = []

    def __setitem__(self, place: Any, number: Any) -> None:
        super().__setitem__(place, number)
        self.states.append(list(self))


def test_whatever_a_reader_sees_while_one_is_written_is_whole_or_none() -> None:
    """A reader goes from the first number to the last, and may be held up at any place."""
    numbers = Watched(32)
    exemplars = Exemplars(cast(Segment, SimpleNamespace(numbers=numbers, offset_of=lambda *_: 0)), "seconds", 1)
    for value, ident in ((1.0, LARGEST), (2.0, SPAN)):
        exemplars.set(0, value, ident)
    size = len(numbers.states) // 2
    seen = set()
    for before, after in combinations_with_replacement(numbers.states, 2):
        for place in range(size + 1):
            (found,) = newest([before[:place] + after[place:size]], 1)
            seen.add(None if found is None else (found.value, found.ident))
    assert seen == {None, (1.0, LARGEST), (2.0, SPAN)}


def test_an_exemplar_in_the_words_of_a_scrape() -> None:
    told = Exemplar(0.5, 1700000000.25, SpanId(1, 2)).told()
    assert told.labels == {"trace_id": f"{1:032x}", "span_id": f"{2:016x}"}
    assert (told.value, told.timestamp) == (0.5, 1700000000.25)
    assert sum(len(name) + len(value) for name, value in told.labels.items()) <= 128  # as OpenMetrics wants


def lines_of(metrics: Metrics) -> list[str]:
    """The text format, but for what a process takes of the machine meanwhile."""
    taken = ("mixer_worker_cpu_seconds_total", "mixer_worker_resident_bytes")
    return [line for line in metrics.render().decode().splitlines() if not line.startswith(taken)]


def test_the_text_format_has_none_and_takes_no_memory_for_them() -> None:
    memory = SharedMemory()
    metrics = Metrics(memory)
    assert not [name for name, _ in memory.segment(0).read() if SUFFIX in name]
    metrics.answered("/classify", 200, 0.5, None, {"receive": 0.1})
    before = lines_of(metrics)
    metrics.exemplify("/classify", 0.5, {"receive": 0.1}, SPAN)
    assert lines_of(metrics) == before
    text = metrics.render_open_metrics().decode()
    assert text.count(f'# {{span_id="{SPAN.span_id:016x}",trace_id="{SPAN.trace_id:032x}"}}') == 2
    assert text.endswith("# EOF\n")
