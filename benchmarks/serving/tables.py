"""Results as Markdown. Knows nothing of how they were found."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.serving.cells import Cell
from benchmarks.serving.results import Figure, Results

_LEGEND = (
    "Figures are medians of {rounds} rounds, ± half the distance from the least to the most; in brackets the share of "
    "the ceiling, which is what bare threads reached just before. Every answer was checked; a run with a wrong, failed "
    "or missing answer is disqualified. Ratios are taken round by round before their median."
)


@dataclass(frozen=True)
class Circumstances:
    """Where and with what it was measured; without it the figures mean nothing. `refused`: peer and why."""

    machine: Mapping[str, str]
    terms: Mapping[str, str]
    versions: Mapping[str, Mapping[str, str]]
    refused: Mapping[str, str] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)
    workloads: Mapping[str, str] = field(default_factory=dict)


def markdown(circumstances: Circumstances, results: Results) -> str:
    """Everything, the comparison first."""
    rounds = len({turn.number for turn in results.turns})
    parts = ["# This service, the ceiling and its peers", _surroundings(circumstances)]
    parts.append(_LEGEND.format(rounds=rounds))
    parts += _duels(results)
    for workload in _workloads(results):
        parts += _workload(results, workload)
    parts += _servers(results)
    parts += _troubles(circumstances, results)
    return "\n\n".join(parts) + "\n"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown, a bar inside a cell written as a slash."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "/") for cell in line) + " |" for line in lines)


def _surroundings(circumstances: Circumstances) -> str:
    lines = [
        f"- {name}: {value}" for part in (circumstances.machine, circumstances.terms) for name, value in part.items()
    ]
    lines += [f"- model {name}: {text}" for name, text in circumstances.models.items()]
    lines += [f"- workload {name}: {text}" for name, text in circumstances.workloads.items()]
    for peer, versions in circumstances.versions.items():
        lines.append(f"- {peer}: {', '.join(f'{name} {version}' for name, version in versions.items())}")
    return "\n".join(lines)


def _duels(results: Results) -> list[str]:
    rows = []
    for cell in results.cells():
        duel = results.duel(cell)
        if duel is not None:
            rows.append([*_where(cell), duel.ours, f"{duel.share:.2f}", duel.theirs, f"{duel.ratio:.2f}"])
    if not rows:
        return []
    header = ["workload", "body", "connections", "this service", "of the ceiling", "best peer", "times as fast"]
    return ["## The best of this service against the best of its peers", table(header, rows)]


def _workload(results: Results, workload: str) -> list[str]:
    ceiling = results.ceiling(workload)
    parts = [f"## {workload}", f"Ceiling: {_number(ceiling.median)} images/s ±{ceiling.half:.0%}."]
    for body in sorted({cell.body for cell in results.cells() if cell.workload == workload}, reverse=True):
        measured = [cell for cell in results.cells() if cell.workload == workload and cell.body == body]
        parts.append(f"### {workload}, {body}: images/s by connections")
        parts.append(_by_connections(results, measured, _rate))
        parts.append(f"### {workload}, {body}: latency in ms by connections, p50 / p95 / p99")
        parts.append(_by_connections(results, measured, _latency))
    return parts


def _by_connections(results: Results, cells: Sequence[Cell], shown: Callable[[Figure], str]) -> str:
    names = results.configurations(results.model_of(cells[0].workload))
    rows = []
    for name in names:
        figures = [results.figure(name, cell) for cell in cells]
        if any(figure is not None for figure in figures):
            rows.append([name, *(_cell(figure, shown) for figure in figures)])
    return table(["", *(str(cell.connections) for cell in cells)], rows)


def _cell(figure: Figure | None, shown: Callable[[Figure], str]) -> str:
    if figure is None:
        return "not measured"
    return shown(figure) if not figure.faults else f"disqualified: {figure.faults[0].split(' (')[0]}"


def _rate(figure: Figure) -> str:
    return f"{_number(figure.images_s.median)} ±{figure.images_s.half:.0%} ({figure.share.median:.2f})"


def _latency(figure: Figure) -> str:
    return " / ".join(_number(spread.median) for spread in (figure.p50_ms, figure.p95_ms, figure.p99_ms))


def _servers(results: Results) -> list[str]:
    parts = []
    for model in results.models():
        rows = []
        for name in results.configurations(model):
            startup, memory = results.startup_s(model, name), results.memory_bytes(model, name)
            started = "did not start" if startup is None else f"{startup.median:.1f} ±{startup.half:.0%}"
            weighed = "" if memory is None else f"{memory.median / 1e6:,.0f} ±{memory.half:.0%}"
            rows.append([name, started, weighed])
        parts += [
            f"## Servers of {model}",
            table(["", "seconds to the first answer", "memory of all processes afterwards, MB"], rows),
        ]
    return parts


def _troubles(circumstances: Circumstances, results: Results) -> list[str]:
    refused = [f"- {peer} is not installed: {reason}" for peer, reason in circumstances.refused.items()]
    lines = [*refused, *(f"- {fault}" for fault in results.faults())]
    return ["## What did not work", "\n".join(lines)] if lines else []


def _workloads(results: Results) -> list[str]:
    return list(dict.fromkeys(name for turn in results.turns for name in turn.ceilings))


def _where(cell: Cell) -> list[str]:
    return [cell.workload, cell.body, str(cell.connections)]


def _number(value: float) -> str:
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f}"
