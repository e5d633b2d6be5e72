"""Findings as sections of the report: tables and charts in HTML. Measures nothing."""

from model.evaluation.charts import charts_of
from model.evaluation.findings import Findings
from model.evaluation.report import table
from model.evaluation.robustness import Robustness
from model.shifts.corruptions import STRENGTHS


def sections_of(findings: Findings) -> list[str]:
    """Risk and coverage; then corruptions, geometry and unfamiliar pictures, where they were measured."""
    charts = charts_of(findings)
    parts = ["<h2>Risk and coverage</h2>", _drawn(charts["risk-coverage"])]
    if findings.robustness is not None:
        parts += _robustness(findings.robustness, charts)
    if findings.unfamiliar:
        rows = [(name, one.num_pictures, f"{one.auroc:.3f}") for name, one in findings.unfamiliar.items()]
        parts += [
            "<h2>Pictures of no class</h2>",
            "<p>How often the log-sum-exp of the logits is higher for one of the data's pictures (AUROC).</p>",
            table(("pictures", "number", "AUROC"), rows),
            _drawn(charts["unfamiliar"]),
        ]
    return parts


def _robustness(robustness: Robustness, charts: dict[str, str]) -> list[str]:
    corruptions = [
        (name, *(f"{share:.1%}" for share in (robustness.clean, *shares, sum(shares) / len(shares))))
        for name, shares in robustness.corruptions.items()
    ]
    geometry = [(name, f"{share:.1%}") for name, share in robustness.geometry.items()]
    return [
        "<h2>Robustness</h2>",
        f"<p>Top-1 of {robustness.num_pictures} pictures, evenly spaced, seed {robustness.seed}: "
        f"{robustness.clean:.1%} as they are, {robustness.mean_corrupted:.1%} on average under corruptions.</p>",
        table(("corruption", "as it is", *STRENGTHS, "mean"), corruptions),
        _drawn(charts["corruptions"]),
        table(("moved", "top-1"), geometry),
        _drawn(charts["geometry"]),
    ]


def _drawn(svg: str) -> str:
    """An SVG file as a part of a page."""
    return f"<p>{svg[svg.index('<svg') :]}</p>"
