"""Loads and references in turns, and rates that do not depend on where a run ends."""

import pytest

from benchmarks.fleet.interleaving import interleaved
from benchmarks.fleet.observed import Figures, Load, even_rate_s, together
from benchmarks.fleet.threads import Used


def _load(rate: float, answered: int = 100, images_a_run: float = 4.0) -> Load:
    return Load(Figures(rate, 10, 20, 0), Used(0.2, 0.6), 0.2, answered, 0, images_a_run, even_rate_s=rate)


def test_each_load_has_a_reference_right_before_and_right_after_it():
    said, rates = [], iter((200.0, 250.0, 300.0))

    def reference() -> Load:
        said.append("reference")
        return _load(next(rates))

    def load(name: str):
        return lambda capacity_s: (said.append(name), (0.8 * capacity_s, _load(1.0)))[1]

    references, loads = interleaved({"a": load("a"), "b": load("b")}, reference)
    assert said == ["reference", "a", "reference", "b", "reference"]
    assert [one.even_rate_s for one in references] == [200.0, 250.0, 300.0]
    assert {name: asked for name, (asked, _) in loads.items()} == {"a": 160.0, "b": 200.0}  # of the moment before


def test_a_service_that_answers_no_reference_is_an_error():
    with pytest.raises(ValueError, match=r"before 'a' had 0 answers/s; expected more"):
        interleaved({"a": lambda capacity_s: (1.0, _load(1.0))}, lambda: _load(0.0))


def test_a_rate_hardly_depends_on_where_runs_end():
    """Two workers, eleven answers at once each 80 ms: 275 a second, in windows of 2 s that begin at any moment."""
    done = [number * 0.04 for number in range(100) for _ in range(11)]
    starts = [0.5 + shift / 1000 for shift in range(0, 41, 3)]
    plain = [sum(start <= when < start + 1.99 for when in done) / 1.99 for start in starts]
    even = [even_rate_s(done, start, start + 1.99) for start in starts]
    assert max(plain) - min(plain) > 5
    assert even == pytest.approx([275] * len(starts), rel=0.002)


def test_what_a_load_had_of_the_cpus_is_its_processor_time_of_what_the_clock_allows():
    assert _load(rate=160.0).share_of(2) == pytest.approx(160 * 0.01 / 2)


def test_loads_as_one_have_sums_and_the_mean_of_what_runs_hold():
    one = together([_load(100.0, 80, 4.0), _load(300.0, 120, 8.0)])
    assert (one.answered, one.even_rate_s, one.figures.rate_s) == (200, 200.0, 200.0)
    assert one.images_a_run == pytest.approx(200 / (80 / 4 + 120 / 8))
    assert one.request_s == pytest.approx(2.0 / 200)
    assert one.on_cpus_of(2.0).request_s == pytest.approx(1.0 / 200)
