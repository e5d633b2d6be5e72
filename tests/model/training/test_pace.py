import re
from datetime import datetime

import pytest

from model.training.pace import Pace

NOON = datetime(2026, 3, 2, 12).timestamp()


class _Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


def _told(pace: Pace, clock: _Clock, seconds: list[float], left: int, images: int = 100) -> list[str | None]:
    """What is said after steps that take so long."""
    lines = []
    for taken in seconds:
        clock.now += taken
        left -= 1
        lines.append(pace.step(images, left))
    return lines


def test_after_20_steps_the_rate_without_the_first_five_and_the_end_are_told_once() -> None:
    clock = _Clock()
    lines = _told(Pace(clock), clock, [60.0] * 5 + [2.0] * 30, left=2000)
    assert [index for index, line in enumerate(lines, 1) if line] == [20]
    assert lines[19] == "50 images/s; expected to end at 13:11, in 1 h 6 min"  # 1980 steps of 2 s after 12:05:30


@pytest.mark.parametrize(
    ("step_s", "left", "words"),
    [
        (1.0, 60, "in 40 s"),
        (1.0, 620, "in 10 min"),
        (60.0, 2020, r"at 2026-03-03 21:40, in 1 d 9 h"),
    ],
)
def test_the_time_that_is_left_has_two_units_and_another_day_its_date(step_s: float, left: int, words: str) -> None:
    clock = _Clock()
    line = _told(Pace(clock), clock, [step_s] * 20, left)[-1]
    assert line is not None
    assert re.search(f"{words}$", line)


def test_a_run_of_20_steps_has_no_end_to_tell() -> None:
    clock = _Clock()
    assert _told(Pace(clock), clock, [1.0] * 20, left=20) == [None] * 20


def test_a_gpu_is_waited_for_where_the_clock_is_read() -> None:
    clock, waits = _Clock(), []
    _told(Pace(clock, wait=lambda: waits.append(clock.now)), clock, [1.0] * 30, left=100)
    assert waits == [NOON + 5, NOON + 20]


def test_an_epoch_whose_evaluation_takes_long_corrects_the_end_once() -> None:
    clock = _Clock()
    pace = Pace(clock)
    _told(pace, clock, [1.0] * 100, left=1000)
    clock.now += 100.0  # the evaluation: two seconds a step in all
    assert pace.epoch(900) == "expected to end at 12:33, in 30 min"
    _told(pace, clock, [1.0] * 100, left=900)
    clock.now += 102.0
    assert pace.epoch(800) is None  # within a tenth


def test_an_epoch_before_anything_is_told_or_the_last_one_says_nothing() -> None:
    clock = _Clock()
    pace = Pace(clock)
    _told(pace, clock, [1.0] * 3, left=6)
    assert pace.epoch(3) is None
    _told(pace, clock, [1.0] * 30, left=60)
    clock.now += 1000
    assert pace.epoch(0) is None
