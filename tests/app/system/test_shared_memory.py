"""Numbers and words that processes share: each writes a row of its own, which outlives it."""

import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.system import shared_memory
from app.system.shared_memory import Segment, SharedMemory
from tests.app.servers import ROOT, clean_environment

names = st.lists(st.text(max_size=8), min_size=1, max_size=3).map(json.dumps)  # as metrics.py makes them
numbers = st.floats(allow_nan=False)


def test_a_name_keeps_its_place_and_begins_with_zeros() -> None:
    segment = SharedMemory().segment(0)
    first, many, last = segment.offset_of("first"), segment.offset_of("many", 3), segment.offset_of("last")
    assert list(segment.numbers[first : last + 1]) == [0.0] * 5
    segment.numbers[first] = 1.5
    segment.numbers[many + 2] += 2
    segment.numbers[last] = -7
    assert (segment.offset_of("first"), segment.offset_of("many", 3), segment.offset_of("last")) == (first, many, last)
    assert list(segment.read()) == [("first", [1.5]), ("many", [0, 0, 2]), ("last", [-7])]


def test_whoever_takes_over_a_row_goes_on_counting_there() -> None:
    shared = SharedMemory(2)
    before = shared.segment(1)
    before.numbers[before.offset_of("counted", 2)] = 3
    before.offset_of("old")
    successor = shared.segment(1)
    at = successor.offset_of("counted", 2)
    successor.numbers[at] += 1
    successor.numbers[successor.offset_of("new")] = 5
    assert dict(shared.segment(1).read()) == {"counted": [4, 0], "old": [0], "new": [5]}
    assert list(shared.segment(0).read()) == []


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), names, numbers), max_size=30))
def test_rows_are_apart_and_readers_see_what_was_written(writes: list[tuple[int, str, float]]) -> None:
    shared = SharedMemory(3)
    writers = shared.segments()
    expected: list[dict[str, list[float]]] = [{}, {}, {}]
    for index, name, number in writes:
        writers[index].numbers[writers[index].offset_of(name)] = number
        expected[index][name] = [number]
    assert [dict(segment.read()) for segment in shared.segments()] == expected


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"])), min_size=1))
def test_what_was_said_last_is_heard_as_far_as_it_fits(words: list[str]) -> None:
    segment = SharedMemory().segment(0)
    for one in words:
        segment.set_message(one)
    heard = segment.message().removesuffix("\N{REPLACEMENT CHARACTER}")  # of a character that was cut
    assert words[-1].startswith(heard.removesuffix("\N{REPLACEMENT CHARACTER}"))
    assert heard == words[-1] or len(words[-1].encode()) > 1000


def test_nothing_is_said_at_first_and_again_once_there_is_nothing_to_say() -> None:
    segment = SharedMemory().segment(0)
    assert segment.message() == ""
    segment.set_message("Something is wrong.")
    assert segment.message() == "Something is wrong."
    segment.set_message("")
    assert segment.message() == ""


def test_words_that_are_too_long_are_cut_even_within_a_character() -> None:
    shared = SharedMemory(2)
    first, second = shared.segments()
    second.set_message("the other")
    first.set_message("\N{GREEK SMALL LETTER ALPHA}" * 1000)
    assert first.message() == "\N{GREEK SMALL LETTER ALPHA}" * 511 + "\N{REPLACEMENT CHARACTER}"
    assert list(first.read()) == []  # nothing ran over into the names
    assert second.message() == "the other"


def fill(segment: Segment) -> None:
    for number in range(3):
        segment.offset_of(f"name {number}")


@pytest.mark.parametrize(("name", "count"), [("a", shared_memory._NUMBERS), ("a" * shared_memory._NAME_BYTES, 1)])
def test_a_row_without_room_says_so_and_keeps_what_it_has(name: str, count: int) -> None:
    shared = SharedMemory(2)
    segment = shared.segment(0)
    fill(segment)
    with pytest.raises(MemoryError, match=r"The shared memory has no room for a+; expected fewer different names\."):
        segment.offset_of(name, count)
    segment.numbers[segment.offset_of("small")] = 1
    assert dict(segment.read()) == {"name 0": [0], "name 1": [0], "name 2": [0], "small": [1]}
    assert list(shared.segment(1).read()) == []


_FORKED = """
import os
from app.system.shared_memory import SharedMemory

shared_memory = SharedMemory(2)
shared_memory.segment(0).offset_of("known before the fork")
ready, told = os.pipe()
for index in (0, 1):
    if os.fork() == 0:
        segment = shared_memory.segment(index)
        segment.numbers[segment.offset_of("known before the fork")] += index + 1
        segment.numbers[segment.offset_of("new")] = 10 + index
        segment.set_message(f"I am {index}")
        os._exit(0)
    os.wait()
for segment in shared_memory.segments():
    print(segment.message(), sorted(segment.read()))
"""


@pytest.mark.process
def test_forked_processes_share_it() -> None:
    finished = subprocess.run(
        [sys.executable, "-c", _FORKED], cwd=ROOT, env=clean_environment(), capture_output=True, check=True, text=True
    )
    assert finished.stdout.splitlines() == [
        "I am 0 [('known before the fork', [1.0]), ('new', [10.0])]",
        "I am 1 [('known before the fork', [2.0]), ('new', [11.0])]",
    ]
