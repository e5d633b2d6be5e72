"""How fast answers come, measured while there is work."""

import pytest

from app.throughput import Throughput


def test_nothing_measured_is_no_rate() -> None:
    assert Throughput().per_s(100.0) == 0.0


@pytest.mark.parametrize(("now", "rate"), [(4.0, 10 / 4), (5.0, 2.0), (6.0, 2.0), (8.0, 1.2), (20.0, 0.0)])
def test_the_rate_counts_the_last_five_seconds_at_most(now: float, rate: float) -> None:
    throughput = Throughput()
    throughput.restart(0.0)
    throughput.note(4, 2.0)
    throughput.note(6, 4.0)
    assert throughput.per_s(now) == pytest.approx(rate)


def test_idle_time_is_no_part_of_it() -> None:
    throughput = Throughput()
    throughput.restart(0.0)
    throughput.note(100, 1.0)
    throughput.restart(3.0)
    assert throughput.per_s(4.0) == 0.0
    throughput.note(2, 4.0)
    assert throughput.per_s(4.0) == 2.0


def test_an_answer_at_the_very_first_moment_is_no_division_by_zero() -> None:
    throughput = Throughput()
    throughput.restart(7.0)
    throughput.note(3, 7.0)
    assert throughput.per_s(7.0) == pytest.approx(3000.0)


def test_what_is_older_is_forgotten() -> None:
    throughput = Throughput()
    for second in range(1000):
        throughput.note(1, float(second))
    assert len(throughput._finished) == 6
