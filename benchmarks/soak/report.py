"""A soak as Markdown."""

from benchmarks.serving.tables import table
from benchmarks.soak.ledger import LEFT, LOST, RIGHT, WRONG, Ledger, Weighing, most

_OUTCOMES = (RIGHT, LEFT, WRONG, LOST)


def markdown(circumstances: dict[str, str], ledger: Ledger, growth: float) -> str:
    """The verdict first."""
    verdict = ledger.verdict(growth)
    rate = ledger.requests / ledger.seconds if ledger.seconds else 0.0
    share = ledger.client_s / ledger.seconds if ledger.seconds else 0.0
    parts = [
        "# Soak",
        "\n".join(f"- {name}: {text}" for name, text in circumstances.items()),
        f"{ledger.requests:,} requests in {ledger.seconds:,.0f} s ({rate:,.0f}/s; client: {share:.0%} of a CPU). "
        + (f"**Not good enough: {'; '.join(verdict)}.**" if verdict else "Nothing wrong, nothing lost, nothing grew."),
        _kinds(ledger),
        _weighings(ledger.weighings),
        _faults(ledger),
    ]
    if ledger.examples:
        parts += ["## Examples", "\n".join(f"- {one}" for one in ledger.examples)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _kinds(ledger: Ledger) -> str:
    rows = []
    for kind in sorted(ledger.kinds()):
        counts = [ledger.outcomes[kind, outcome] for outcome in _OUTCOMES]
        rows.append([kind, f"{sum(counts):,}", *(f"{count:,}" for count in counts)])
    rows.append(["all", f"{ledger.requests:,}", *(f"{ledger.count(outcome):,}" for outcome in _OUTCOMES)])
    return table(["kind", "requests", *_OUTCOMES], rows)


def _weighings(weighings: list[Weighing]) -> str:
    rows = []
    for one in weighings:
        growth = one.after.growth(one.before)
        rows.append([
            one.instance,
            f"{one.requests:,}",
            f"{one.before.memory_bytes / 1e6:.1f} → {one.after.memory_bytes / 1e6:.1f} ({growth['memory']:+.1%})",
            f"{one.before.own_bytes / 1e6:.1f} → {one.after.own_bytes / 1e6:.1f}",
            f"{one.before.threads} → {one.after.threads} ({growth['threads']:+.1%})",
            f"{one.before.files} → {one.after.files} ({growth['files']:+.1%})",
        ])  # fmt: skip
    header = ["service", "requests in between", "memory, MB", "of it no file's, MB", "threads", "open files"]
    return table(header, rows) if rows else ""


def _faults(ledger: Ledger) -> str:
    lines = []
    if ledger.replaced_s:
        lines.append(
            f"- workers killed: {len(ledger.replaced_s)}; another process within {most(ledger.replaced_s):.1f} s"
        )
    if ledger.restarts_s:
        lines.append(f"- restarts: {len(ledger.restarts_s)}, {most(ledger.restarts_s):.1f} s at most")
    if ledger.reloads_s:
        lines.append(f"- reloads, each with one that was refused: {len(ledger.reloads_s)}, ")
        lines[-1] += f"another version everywhere within {most(ledger.reloads_s):.1f} s"
    lines += [f"- sent on by nginx after {name}: {count:,}" for name, count in sorted(ledger.sent_on.items())]
    lines += [f"- {name}, then tried again: {count:,}" for name, count in sorted(ledger.detours.items())]
    return "\n".join(lines)
