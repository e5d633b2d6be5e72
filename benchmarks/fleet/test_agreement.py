"""Which slices count, what is compared of them, and what does not agree is named."""

from dataclasses import replace

import pytest

from benchmarks.fleet import agreement
from benchmarks.fleet.agreement import Slice
from benchmarks.fleet.observed import Figures

_MEASURED = Figures(100, 10, 20, 0.30)


def _slice(simulated: Figures = _MEASURED, measured: Figures = _MEASURED, after: float = 200.0) -> Slice:
    return Slice(measured, simulated, (200.0, after))


def test_a_slice_counts_where_its_references_differ_by_8_percent_at_most():
    assert [_slice(after=after).is_steady for after in (200.0, 216.0, 217.0, 185.0, 184.0)] == [
        True, True, False, True, False,
    ]  # fmt: skip


def test_what_differs_by_more_than_15_percent_is_named_and_what_does_not_is_not():
    near = agreement.steady("near", [_slice(Figures(114, 9, 22, 0.31))])
    far = agreement.steady("far", [_slice(Figures(116, 9, 40, 0.40))])
    assert agreement.outside([near]) == []
    assert [line.split(" is ")[0] for line in agreement.outside([far])] == [
        "far: rate_s",
        "far: p99_ms",
        "far: refused",
    ]


def test_two_points_more_that_are_refused_are_agreement_whatever_their_ratio():
    few = replace(_MEASURED, refused=0.0)
    two, three = (agreement.whole("", [_slice(replace(few, refused=share), few)]) for share in (0.02, 0.03))
    assert two.agrees("refused")
    assert not three.agrees("refused")


def test_the_verdict_is_the_median_of_the_slices_own_ratios():
    """Those of 20 and 30 ms are far off, and the medians, 20 and 20 ms, are equal: each slice has its own speed."""
    slices = [
        _slice(replace(_MEASURED, p50_ms=simulated), replace(_MEASURED, p50_ms=measured))
        for simulated, measured in ((10, 8), (20, 30), (26, 20))
    ]
    pair = agreement.whole("near", slices)
    assert (pair.measured.p50_ms, pair.simulated.p50_ms) == (20, 20)
    assert pair.ratios("p50_ms") == pytest.approx([1.25, 2 / 3, 1.3])
    assert pair.medians_agree("p50_ms")
    assert not pair.agrees("p50_ms")
    (line,) = agreement.outside([pair])
    assert line == "near: p50_ms is 1.25 (0.96 to 1.27) times what is measured, 20 of 20 in the medians"


def test_slices_that_are_not_steady_are_left_out_and_told():
    slices = [_slice(), _slice(), _slice(Figures(200, 5, 10, 0.0), after=100.0)]
    kept, everything = agreement.steady("some", slices), agreement.whole("some", slices)
    assert (kept.steady, kept.of, len(kept.slices), len(everything.slices)) == (2, 3, 2, 3)
    text = agreement.report([kept], [everything], [0.99, 0.97, 0.98])
    assert "The 3 references had 98% of the CPUs' time, and at least 97%" in text
    assert "Left out: 1 of 3 slices (1 of 3 at some), for references that differ by more than 8%." in text
    assert all(line.startswith("|") or len(line) <= 118 for line in text.splitlines())
    assert "| some | 2 | 100.0, 100.0 | 1.00 (1.00 to 1.00) |" in text
    assert "| some | 3 | 100.0 ±0%" not in text
    assert "| some | 3 | 100.0, 100.0 | 1.00 (1.00 to 1.50) |" in text.partition("With all slices:")[2]


def test_a_load_of_which_fewer_than_half_of_the_slices_are_steady_has_no_verdict():
    half = agreement.steady("half", [_slice(), _slice(after=100.0)])
    fewer = agreement.steady("fewer", [_slice(), _slice(after=100.0), _slice(after=100.0)])
    none = agreement.steady("none", [_slice(after=100.0)])
    assert agreement.outside([half]) == []
    assert agreement.outside([fewer, none]) == [
        "fewer: 1 of 3 slices are steady; expected half of them",
        "none: 0 of 1 slices are steady; expected half of them",
    ]


def test_the_table_marks_what_is_off_and_the_report_names_it_by_the_medians_too():
    pair = agreement.whole("far", [_slice(Figures(116, 9, 20, 0.3))])
    assert "| far | 1 | 100.0, 116.0 | **1.16 (1.16 to 1.16)** | 10.0, 9.0 | 0.90 (" in agreement.table([pair])
    assert "By the ratio of the medians, off by more than 15%: far, rate_s." in " ".join(
        agreement.report([pair], [pair], [1.0]).split()
    )


def test_the_spread_is_half_of_the_range():
    slices = [_slice(measured=replace(_MEASURED, rate_s=rate)) for rate in (90, 100, 120)]
    assert agreement.whole("", slices).spread("rate_s") == pytest.approx(0.15)
