"""What was chosen and what was found about pictures, as two tables of plain lines. Knows nothing of training."""

from collections.abc import Sequence

from cli.terminal import console

_KINDS = {"skipped: ": "cannot be read", "warning: ": "warning"}


def tell_choices(choices: Sequence[tuple[str, str]]) -> None:
    """A line for each thing that was chosen, with the reason or the flag that chooses otherwise."""
    for line in table(choices):
        console.print(line)


def tell_findings(lines: Sequence[str]) -> None:
    """Lines about a data set: what it holds, and then all doubts in one table."""
    doubts = []
    for line in lines:
        kind = next((start for start in _KINDS if line.startswith(start)), None)
        if kind is None:
            console.print(line)
        else:
            doubts.append((_KINDS[kind], line.removeprefix(kind)))
    for row in table(sorted(doubts, key=lambda doubt: doubt[0])):
        console.print(row)


def table(rows: Sequence[tuple[str, str]]) -> list[str]:
    """Two columns, the first as wide as its widest entry. Long lines stay whole, and so do paths in them."""
    width = max((len(first) for first, _ in rows), default=0)
    return [f"  {first:<{width}}  {second}" for first, second in rows]
