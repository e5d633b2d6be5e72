"""A section: what one part of the run found out, and how all of them are written down."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Row = Sequence[object]
UNDER_WAY = "under way"


@dataclass
class Section:
    """What one part found out: a verdict, figures for programs, and lines of Markdown for people."""

    name: str
    ok: bool = True
    figures: dict[str, Any] = field(default_factory=dict)
    markdown: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    took_s: float = 0.0
    verdict: str = ""  # empty while it is under way
    save: Callable[[], None] = lambda: None  # writes what there is so far

    def expect(self, holds: bool, otherwise: str) -> None:
        """Note a check that does not hold; the others still run."""
        if not holds:
            self.ok = False
            self.failures.append(otherwise)

    def say(self, line: str) -> None:
        self.markdown += [line, ""]

    def table(self, heads: Row, rows: Sequence[Row]) -> None:
        self.markdown += [_line(heads), _line(["---"] * len(heads)), *map(_line, rows), ""]


def write(sections: Sequence[Section], out: Path) -> None:
    content = {
        section.name: {
            "ok": section.ok, "verdict": section.verdict or UNDER_WAY, "took_s": section.took_s,
            "failures": section.failures, **section.figures
        }
        for section in sections
    }  # fmt: skip
    (out / "gpu.json").write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")
    lines = ["# On a GPU", ""]
    for section in sections:
        verdict = section.verdict or UNDER_WAY
        lines += [f"## {section.name.replace('_', ' ')}: {verdict} ({section.took_s:.0f} s)", "", *section.markdown]
        for failure in section.failures:
            lines += ["```", failure.rstrip(), "```", ""]
    (out / "gpu.md").write_text("\n".join(lines), encoding="utf-8")


def _line(cells: Row) -> str:
    return f"| {' | '.join(str(cell).replace('|', '/') for cell in cells)} |"
