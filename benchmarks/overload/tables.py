"""Loads as Markdown. Knows nothing of how they were found."""

from collections.abc import Callable, Iterable, Sequence
from math import isnan
from statistics import median

from benchmarks.overload.results import Aim, Load, Results, Times
from benchmarks.serving.results import Spread
from benchmarks.serving.tables import table

_LEGEND = """\
Figures are medians of {rounds} rounds, ± half the distance from the least to the most. Load 0 is the closed loop that
finds the capacity; the others are open loops at multiples of it. Goodput: right answers within their deadline that came
in a second. Of the peak: goodput over the best of the same round; in brackets the same for each CPU that the client
left free, as both share them. Times are from when a request was due, in ms. Second tries: those of the refused
that came again after Retry-After and had a right answer in time; in brackets those that came while the overload lasted,
and those that came when it was over. A load with a fault does not count."""

_COLUMNS: tuple[tuple[str, Callable[[Load], float]], ...] = (
    ("offered/s", lambda load: load.offered_s),
    ("accepted/s", lambda load: load.accepted_s),
    ("goodput/s", lambda load: load.goodput_s),
)


def markdown(circumstances: dict[str, str], results: Results) -> str:
    """Everything, the aims first."""
    rounds = len({one.number for one in results.rounds})
    parts = [
        "# This service beyond its capacity",
        "\n".join(f"- {name}: {text}" for name, text in circumstances.items()),
    ]
    parts.append(_LEGEND.format(rounds=rounds))
    for workload in results.workloads():
        parts.append(f"## {workload}, deadline {results.deadlines_ms[workload]:g} ms")
        parts += [_aims(results.aims(workload)), _rates(results, workload), _times(results, workload)]
        parts.append(_client(results, workload))
    faults = results.faults()
    if faults:
        parts += ["## What does not count, and why", "\n".join(f"- {fault}" for fault in faults)]
    return "\n\n".join(parts) + "\n"


def _aims(aims: Sequence[Aim]) -> str:
    rows = [
        [aim.words, _number(aim.reached), f"{'at least' if aim.at_least else 'at most'} {aim.wanted:g}", _met(aim)]
        for aim in aims
    ]
    return table(["aim", "reached", "wanted", "met"], rows)


def _met(aim: Aim) -> str:
    return "yes" if aim.is_met else "not measured" if isnan(aim.reached) else "no"


def _rates(results: Results, workload: str) -> str:
    rows = []
    for times, loads in _rows(results, workload):
        share = results.share(workload, times) if times else None
        made_up = results.made_up_share(workload, times) if times else None
        rows.append([
            f"{times:g}",
            *(_spread([value(load) for load in loads]) for _, value in _COLUMNS),
            "" if share is None or made_up is None else f"{share.median:.2f} ({made_up.median:.2f})",
            _counts([load.refusals for load in loads]),
            _retries(loads),
            _sum(load.late for load in loads),
            _sum(load.wrong + load.broken + sum(load.failed.values()) for load in loads),
            "yes" if any(load.faults for load in loads) else "",
        ])  # fmt: skip
    header = [
        "load",
        *(name for name, _ in _COLUMNS),
        "of the peak",
        "refused",
        "second tries",
        "late",
        "wrong or failed",
    ]
    return table([*header, "fault"], rows)


def _times(results: Results, workload: str) -> str:
    rows = []
    for times, loads in _rows(results, workload):
        accepted, refused = [load.accepted for load in loads], [load.refused for load in loads]
        rows.append([
            f"{times:g}",
            *(_spread(found) for found in _percentiles(accepted)),
            _spread([one.p50_ms for one in refused]),
            _spread([one.p99_ms for one in refused]),
        ])  # fmt: skip
    return table(["load", "accepted: p50", "p95", "p99", "refused: p50", "p99"], rows)


def _client(results: Results, workload: str) -> str:
    rows = [
        [
            f"{times:g}",
            _spread([load.client_cpus for load in loads]),
            _spread([load.server_cpus for load in loads]),
            _spread([load.lateness.p50_ms for load in loads]),
            _spread([load.lateness.p99_ms for load in loads]),
            _sum(load.held for load in loads),
        ]
        for times, loads in _rows(results, workload)
    ]
    return table(["load", "CPUs of the client", "of the server", "sent late, ms: p50", "p99", "held"], rows)


def _rows(results: Results, workload: str) -> list[tuple[float, list[Load]]]:
    closed = [(0.0, [one.capacity for one in results.of(workload)])]
    return closed + [(times, results.loads(workload, times)) for times in results.multiples(workload)]


def _percentiles(found: Sequence[Times]) -> list[list[float]]:
    return [[one.p50_ms for one in found], [one.p95_ms for one in found], [one.p99_ms for one in found]]


def _retries(loads: Sequence[Load]) -> str:
    retries = [load.retries for load in loads]
    during, after = sum(one.during for one in retries), sum(one.after for one in retries)
    if not during + after:
        return ""
    during_right, after_right = sum(one.during_right for one in retries), sum(one.after_right for one in retries)
    share = (during_right + after_right) / (during + after)
    return f"{share:.0%} of {during + after} ({_share(during_right, during)} / {_share(after_right, after)})"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%} of {whole}" if whole else "none"


def _counts(counts: Sequence[dict[int, int]]) -> str:
    statuses = sorted({status for one in counts for status in one})
    return ", ".join(f"{_number(median(one.get(status, 0) for one in counts))} x {status}" for status in statuses)


def _sum(counts: Iterable[int]) -> str:
    return f"{sum(counts):,}"


def _spread(figures: Sequence[float]) -> str:
    if any(isnan(figure) for figure in figures):
        return ""
    spread = Spread(tuple(figures))
    return f"{_number(spread.median)} ±{spread.half:.0%}"


def _number(value: float) -> str:
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return "" if isnan(value) else f"{value:,.{digits}f}"
