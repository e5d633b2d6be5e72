"""What the section `http` of gpu.py tells: figures for programs, tables for people. Knows no processes."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, Protocol

from app.system.cpu_limits import usable_cpus
from benchmarks.on_gpu.http.loads import BUSY_CLIENT, Found, added, words
from benchmarks.on_gpu.http.services import Plan

MEBIBYTE = 1 << 20
HEADS = (
    "workers", "connections", "images/s", "p50, ms", "p99, ms", "service, CPUs", "client, CPUs", "images a run", "note",
)  # fmt: skip
Row = Sequence[object]


class Section(Protocol):
    """The part of a section of gpu.py that is filled here."""

    figures: dict[str, Any]
    markdown: list[str]

    def say(self, line: str) -> None: ...

    def table(self, heads: Row, rows: Sequence[Row]) -> None: ...


def tell(section: Section, plan: Plan, findings: Sequence[Found]) -> None:
    """Everything that was found so far, in place of what was told before."""
    section.markdown.clear()
    section.figures.clear()
    section.say(
        f"Medians of up to {plan.rounds} rounds of {plan.seconds:g} s, all services of a model in turn; closed loops "
        f"of prepared requests from the same machine, which has {usable_cpus()} CPUs. The label of every answer is "
        "compared with that of the engine alone."
    )
    for found in findings:
        section.figures[found.model.name] = as_json(found)
        section.say(f"### {found.model.name}, {found.model.precision}; {found.model.workload.description}")
        section.table(service_heads(found, on_gpu=plan.used_bytes is not None), list(service_rows(found)))
        section.table(HEADS, list(load_rows(found)))
        section.say(f"{verdict(found)} Memory changed by {found.grown_bytes / MEBIBYTE:+,.0f} MiB under all loads.")
        if found.unfinished:
            section.say(f"{found.model.name}: {found.unfinished}.")


def shown_rate(rate_s: float) -> str:
    """With a decimal where it is low."""
    return f"{rate_s:,.0f}" if rate_s >= 100 else f"{rate_s:.1f}"


def load_rows(found: Found) -> Iterator[Row]:
    """A row for every cell that has a load; the best rate is bold."""
    best = found.best()
    for workers, connections in sorted(found.loads, key=lambda cell: (cell[1], cell[0])):
        loads = found.loads[workers, connections]
        rate = shown_rate(found.rate_s(workers, connections))
        values = [
            found.of(workers, connections, value)
            for value in (
                lambda load: load.p50_ms, lambda load: load.p99_ms, lambda load: load.server_cpus,
                lambda load: load.client_cpus, lambda load: load.images_a_run,
            )
        ]  # fmt: skip
        shown = [f"{value:.1f}" for value in values]
        shown[3] += f" in {loads[0].clients}" if loads[0].clients > 1 else ""
        is_best = (workers, connections) == best
        yield workers, connections, f"**{rate}**" if is_best else rate, *shown, note(found, workers, connections)


def note(found: Found, workers: int, connections: int) -> str:
    """Why a figure may be less than the service can do, or was not all there was."""
    loads, notes = found.loads[workers, connections], []
    most = found.of(workers, connections, lambda load: load.client_most)
    if most > BUSY_CLIENT:
        notes.append(f"the client is busy: {most:.0%} of a core")
    notes += [words(status, count) for status, count in added(load.failed for load in loads).items()]
    if wrong := sum(load.wrong for load in loads):
        notes.append(f"{wrong} wrong")
    if not all(load.rate_s for load in loads):
        notes.append("a window without an answer")
    return ", ".join(notes)


def service_heads(found: Found, *, on_gpu: bool) -> Row:
    memory = "device memory, MiB" if on_gpu else "memory of the processes, MiB"
    against = [f"of {name}" for name in found.model.without_http]
    return "workers", "start, s", memory, "best images/s", "with connections", "processor ms an image", *against


def service_rows(found: Found) -> Iterator[Row]:
    """A row for each number of workers: what it costs, its best rate, and that against rates without HTTP."""
    for workers, service in found.services.items():
        own = found.best(workers)
        costs = (workers, f"{service.startup_s:.1f}", f"{service.memory_bytes / MEBIBYTE:,.0f}")
        if own is None:
            yield *costs, "", "", "", *("" for _ in found.model.without_http)
            continue
        rate = found.rate_s(*own)
        processor_ms = 1000 * found.of(*own, lambda load: load.server_cpus) / rate if rate else math.nan
        against = (f"{rate / other:.2f}" for other in found.model.without_http.values())
        yield *costs, shown_rate(rate), own[1], f"{processor_ms:.2f}", *against


def verdict(found: Found) -> str:
    """Which number of workers is best, in a sentence."""
    best = found.best()
    if best is None or not found.rate_s(*best):
        return "Nothing was measured."
    first = f"Best: {best[0]} worker{'s' if best[0] > 1 else ''}, {shown_rate(found.rate_s(*best))} images/s"
    others = [(workers, own) for workers in found.services if workers != best[0] and (own := found.best(workers))]
    ratios = [
        f"{workers} reach{'es' if workers == 1 else ''} {found.rate_s(*own) / found.rate_s(*best):.2f} of it"
        for workers, own in others
    ]
    return f"{first} over {best[1]} connections{''.join(f'; {one}' for one in ratios)}."


def as_json(found: Found) -> dict[str, Any]:
    """Everything."""
    return {
        "precision": found.model.precision,
        "pictures": found.model.workload.description,
        "images_s_without_http": dict(found.model.without_http),
        "unfinished": found.unfinished,
        "grown_bytes": found.grown_bytes,
        "failures": found.failures,
        "services": {
            workers: {"startup_s": one.startup_s, "memory_bytes": one.memory_bytes}
            for workers, one in found.services.items()
        },
        "loads": [
            {"workers": workers, "connections": connections, "rounds": [asdict(load) for load in loads]}
            for (workers, connections), loads in found.loads.items()
        ],
        "best": found.best(),
    }
