"""Facts and prose as Markdown, between two markers; what people wrote around them is kept. Writes no file."""

from collections.abc import Collection, Iterable, Iterator, Sequence

from export.card.facts import CardFacts
from export.card.front_matter import BUNDLE, front_matter, split_front_matter
from export.card.model_card import COVERAGES, UNTRAINED, architecture_of, input_of, overview_of
from export.card.prose import CardProse, DataSheet
from model.errors import ExportError
from model.evaluation.evaluate import top1_interval
from model.evaluation.findings import Findings
from model.evaluation.scores import macro_f1, percent, worst_first

BEGIN = "<!-- mixer card: from here to its end, mixer card writes anew; prose belongs into card.toml, or below -->"
END = "<!-- /mixer card -->"
_MOST_CLASSES, _WORST = 50, 20
_CAPTIONS = {
    "reliability": "How often the best label is right, by its probability",
    "risk-coverage": "Error among the pictures kept, the surest first, against their share",
    "corruptions": "Top-1 under fifteen corruptions at five strengths",
    "geometry": "Top-1 when moved",
    "unfamiliar": "How well pictures of no class are told from the data's",
}


def readme(
    facts: CardFacts,
    prose: CardProse,
    charts: Collection[str],
    earlier: str = "",
    libraries: Sequence[str] = BUNDLE,
) -> str:
    """charts: those that lie in charts/, by name. earlier: the README.md that this one takes the place of.

    libraries: that read the files beside it, the foremost first.

    Raises: ExportError where only the first of the markers is there.
    """
    kept_fields, text = split_front_matter(earlier)
    before, begin, rest = text.partition(BEGIN)
    if begin and END not in rest:
        raise ExportError(f"README.md has {BEGIN!r} and no {END!r} below; expected both, or neither.")
    after = rest.partition(END)[2] if begin else before
    body = "\n\n".join(_parts(facts, prose, charts, is_bundle="onnx" in libraries))
    above = before.strip("\n") + "\n\n" if begin and before.strip() else ""
    below = "\n" + after.strip("\n") + "\n" if after.strip() else ""
    return f"{front_matter(facts, prose, kept_fields, libraries)}{above}{BEGIN}\n\n{body}\n\n{END}\n{below}"


def _parts(facts: CardFacts, prose: CardProse, charts: Collection[str], *, is_bundle: bool) -> Iterator[str]:
    spec = facts.spec
    yield f"# {spec.name}"
    if facts.answers_alike:
        yield f"**{UNTRAINED}**"
    yield prose.overview or overview_of(spec)
    yield from _list_of("## What it is for", prose.uses)
    if is_bundle or any(graph.spec.metrics for graph in facts.graphs):
        yield from _graphs(facts)
    if facts.findings is not None:
        yield from _findings(facts.findings, facts.judged, charts)
    yield "## What it is and costs"
    yield "\n".join(f"- {line}" for line in _cost(facts, is_bundle=is_bundle))
    if prose.data:
        yield "## Data"
        yield from map(_sheet, prose.data)
    yield from _list_of("## Known limits", prose.limits)
    yield from _list_of("## Trade-offs", prose.tradeoffs)
    yield from _list_of("## Risks", (" ".join(filter(None, (one.name, one.mitigation))) for one in prose.risks))
    yield from _list_of("## References", prose.references)
    if is_bundle:
        yield "`card.json` has the same for programs, with every number."


def _graphs(facts: CardFacts) -> Iterator[str]:
    rows = []
    for graph in facts.graphs:
        metrics = graph.spec.metrics
        row = [f"`{graph.name}`", f"{graph.num_bytes:,}"]
        if metrics is not None:
            low, high = top1_interval(metrics.top1, metrics.num_pictures)
            row += [
                f"{metrics.data_set}, {metrics.num_pictures:,} pictures",
                f"{metrics.top1:.2%}",
                f"{low:.1%} to {high:.1%}",
                f"{metrics.top5:.2%}",
                f"{metrics.calibration_error:.4f}",
            ]
        rows.append(row + [""] * (7 - len(row)))
    yield "## Accuracy"
    yield _table(("graph", "bytes", "data", "top-1", "95 % interval", "top-5", "calibration error"), rows)


def _findings(found: Findings, judged: str, charts: Collection[str]) -> Iterator[str]:
    low, high = found.top1_interval
    yield (
        f"All below is of `{judged}` on {found.data_set}, {found.num_pictures:,} pictures: top-1 {found.top1:.2%} "
        f"(95 % interval {low:.1%} to {high:.1%})."
    )
    yield from _classes(found)
    yield "## Confidence"
    yield f"Expected {found.calibration_words}. Loss {found.loss:.4f}."
    if found.cross_validated is not None:
        yield (
            "By name and number, temperature, threshold and sets were fitted to these pictures. Fitted to some of them "
            f"anew, by the logits of this graph, and judged by the others: {found.cross_validated}."
        )
    yield from _drawn("reliability", charts)
    yield f"Where only the surest are answered (area under the curve, AURC: {found.risk_coverage.area:.4f}):"
    errors = [f"{found.risk_coverage.error_at(share):.2%}" for share in COVERAGES]
    yield _table(("kept", *(f"{share:.0%}" for share in COVERAGES)), [("wrong", *errors)])
    yield from _drawn("risk-coverage", charts)
    if found.robustness is not None:
        some = found.robustness
        yield "## Robustness"
        yield (
            f"{some.num_pictures:,} of the pictures, seed {some.seed}: top-1 {some.clean:.1%} as they are, "
            f"{some.mean_corrupted:.1%} on average under corruptions."
        )
        yield from _drawn("corruptions", charts)
        yield from _drawn("geometry", charts)
    if found.unfamiliar:
        yield "## Out of distribution"
        yield "AUROC of the log-sum-exp of the logits, the data's pictures against pictures of no class; 0.5 is chance."
        rows_of = [(name, one.num_pictures, f"{one.auroc:.3f}") for name, one in found.unfamiliar.items()]
        yield _table(("pictures", "number", "AUROC"), rows_of)
        yield from _drawn("unfamiliar", charts)


def _classes(found: Findings) -> Iterator[str]:
    """Every class in the order of the labels; of many, the worst."""
    classes = [one for one in found.classes if one.num_pictures]
    if len(classes) > _MOST_CLASSES:
        mean = macro_f1(classes)
        yield f"The {_WORST} of {len(classes)} classes with the lowest F1, the lowest first; mean F1 {mean:.1%}:"
        classes = worst_first(classes)[:_WORST]
    rows = [(one.label, one.num_pictures, *map(percent, (one.precision, one.recall, one.f1))) for one in classes]
    yield _table(("class", "pictures", "precision", "recall", "F1"), rows)


def _cost(facts: CardFacts, *, is_bundle: bool) -> Iterator[str]:
    spec, throughput = facts.spec, facts.throughput
    yield architecture_of(facts)
    if is_bundle:
        yield f"takes {input_of(spec)}"
    if facts.mmac is not None:
        yield f"{facts.mmac:,.1f} million multiply-adds a picture"
    if throughput is not None:
        yield (
            f"{throughput.images_per_s:,.0f} images a second through `{throughput.graph}` alone, without decoding "
            f"({throughput.machine})"
        )
    yield f"license {spec.source.license}; {spec.source.origin}; version {spec.version}"


def _sheet(sheet: DataSheet) -> str:
    name = f"[{sheet.name}]({sheet.link})" if sheet.link else sheet.name
    told = {"source": sheet.source, "license": sheet.license, "splits": sheet.splits, "collected": sheet.collected}
    return _table((name, ""), [(what, text) for what, text in told.items() if text])


def _drawn(name: str, charts: Collection[str]) -> Iterator[str]:
    if name in charts:
        yield f"![{_CAPTIONS[name]}](charts/{name}.svg)"


def _list_of(head: str, lines: Iterable[str]) -> Iterator[str]:
    if listed := [f"- {line.strip()}" for line in lines]:
        yield head
        yield "\n".join(listed)


def _table(heads: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    lines = [[_cell(one) for one in heads], *([_cell(one) for one in row] for row in rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: object) -> str:
    return " ".join(str(value).replace("|", "\\|").split())
