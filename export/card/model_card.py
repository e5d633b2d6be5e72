"""Facts and prose as the values of card.json. Writes no file."""

import math
from collections.abc import Iterable, Iterator

from export.card import schema
from export.card.facts import CardFacts
from export.card.prose import CardProse, DataSheet
from model.evaluation.cross_validation import SET_COVERAGES, CrossValidated
from model.evaluation.evaluate import top1_interval
from model.evaluation.findings import Findings
from model.shifts.corruptions import STRENGTHS
from model.spec import ModelSpec

UNTRAINED = "The head is untrained: every picture gets the same answer, and nothing is classified. Train it first."
COVERAGES = (0.5, 0.8, 0.9, 0.95, 1.0)
_TOP1 = "top-1 accuracy"


def model_card(facts: CardFacts, prose: CardProse, charts: Iterable[str]) -> schema.ModelCard:
    """charts: their paths from the card."""
    spec = facts.spec
    graphics = tuple(schema.Graphic(name=path) for path in charts)
    return schema.ModelCard(
        schema_version="0.0.2",
        model_details=schema.ModelDetails(
            name=spec.name,
            overview=prose.overview or overview_of(spec),
            owners=tuple(schema.Owner(name=name) for name in prose.owners),
            version=schema.Version(name=spec.version),
            licenses=(_license(spec.source.license),),
            references=tuple(schema.Reference(reference=link) for link in prose.references),
        ),
        model_parameters=schema.ModelParameters(
            model_architecture=architecture_of(facts),
            data=tuple(_data_set(one) for one in prose.data),
            input_format=input_of(spec),
            output_format=f"logits float32 [n, {spec.num_classes}]; softmax at temperature {spec.temperature:.4g}",
        ),
        quantitative_analysis=schema.QuantitativeAnalysis(
            performance_metrics=(*_of_graphs(facts), *_of_cost(facts), *_of_findings(facts)),
            graphics=schema.Graphics(description="SVG files beside this one.", collection=graphics)
            if graphics
            else None,
        ),
        considerations=schema.Considerations(
            use_cases=_described(prose.uses),
            limitations=_described((*[UNTRAINED] * facts.answers_alike, *prose.limits)),
            tradeoffs=_described(prose.tradeoffs),
            ethical_considerations=tuple(
                schema.Risk(name=one.name, mitigation_strategy=one.mitigation or None) for one in prose.risks
            ),
        ),
    )


def overview_of(spec: ModelSpec) -> str:
    """One sentence, where nobody has written a better one."""
    return f"An MLP-Mixer that tells {spec.num_classes} classes of pictures apart."


def architecture_of(facts: CardFacts) -> str:
    """The network and its size, in words."""
    spec, network, parameters = facts.spec, facts.spec.network, facts.num_parameters
    name = "MLP-Mixer" if spec.variant == "custom" else f"MLP-Mixer {spec.variant}"
    if network is None or parameters is None:
        return f"{name}, patches of {spec.patch_size} pixels"
    has_hidden = network.head_hidden_dim > 0
    return (
        f"{name}, {parameters:,} parameters: patches of {spec.patch_size} pixels, hidden {network.hidden_dim}, "
        f"{network.num_blocks} blocks, token-mixing MLP {network.tokens_mlp_dim}, channel-mixing MLP "
        f"{network.channels_mlp_dim}" + (f", a hidden layer of {network.head_hidden_dim} in the head" * has_hidden)
    )


def input_of(spec: ModelSpec) -> str:
    """What the graph takes, in words."""
    kind = "grey" if spec.channels == 1 else "RGB"
    return (
        f"{spec.image_size} x {spec.image_size} {kind} pixels as patches uint8 [n, {spec.num_patches}, "
        f"{spec.patch_bytes}]; fit {spec.fit.mode}, background {spec.fit.background}, frame {spec.fit.frame}"
        + ("" if spec.fit.tilt is None else f", things turned back from {spec.fit.tilt.beyond:g} degrees on")
    )


def _of_graphs(facts: CardFacts) -> Iterator[schema.PerformanceMetric]:
    for graph in facts.graphs:
        metrics = graph.spec.metrics
        if metrics is not None:
            where = f"{graph.name}, {metrics.data_set}"
            interval = top1_interval(metrics.top1, metrics.num_pictures)
            yield _metric(_TOP1, metrics.top1, where, interval)
            yield _metric("top-5 accuracy", metrics.top5, where)
            yield _metric("expected calibration error", metrics.calibration_error, where)


def _of_cost(facts: CardFacts) -> Iterator[schema.PerformanceMetric]:
    if facts.num_parameters is not None:
        yield _metric("parameters", facts.num_parameters)
    if facts.mmac is not None:
        yield _metric("million multiply-adds a picture", facts.mmac)
    for graph in facts.graphs:
        yield _metric("bytes", graph.num_bytes, graph.name)
    if facts.throughput is not None:
        yield _metric(
            "images a second", facts.throughput.images_per_s, f"{facts.throughput.graph}, {facts.throughput.machine}"
        )


def _of_findings(facts: CardFacts) -> Iterator[schema.PerformanceMetric]:
    found = facts.findings
    if found is None:
        return
    where = f"{facts.judged}, {found.data_set}"
    yield _metric("loss", found.loss, where)
    chance = found.calibration_error_by_chance
    yield _metric("expected calibration error if perfectly calibrated, mean", chance.mean, where)
    yield _metric("expected calibration error if perfectly calibrated, 95th percentile", chance.percentile_95, where)
    if found.cross_validated is not None:
        yield from _of_cross_validation(found.cross_validated, f"{where}, pictures left out of the calibration")
    yield _metric("area under risk and coverage", found.risk_coverage.area, where)
    for coverage in COVERAGES:
        error = found.risk_coverage.error_at(coverage)
        yield _metric("error among the kept", error, f"{coverage:.0%} kept")
    for one in found.classes:
        if one.num_pictures:
            rates = {"precision": one.precision, "recall": one.recall, "F1": one.f1}
            yield from (_metric(name, rate, one.label) for name, rate in rates.items() if not math.isnan(rate))
    yield from _beyond(found)


def _beyond(found: Findings) -> Iterator[schema.PerformanceMetric]:
    robustness = found.robustness
    if robustness is not None:
        yield _metric(_TOP1, robustness.clean, f"{robustness.num_pictures} pictures as they are")
        yield _metric(_TOP1, robustness.mean_corrupted, "mean of all corruptions")
        for name, shares in robustness.corruptions.items():
            for strength, share in zip(STRENGTHS, shares, strict=True):
                yield _metric(_TOP1, share, f"{name}, strength {strength}")
        for name, share in robustness.geometry.items():
            yield _metric(_TOP1, share, name)
    for name, one in (found.unfamiliar or {}).items():
        yield _metric("out-of-distribution AUROC", one.auroc, f"{name}, {one.num_pictures} pictures")


def _of_cross_validation(found: CrossValidated, where: str) -> Iterator[schema.PerformanceMetric]:
    yield _metric("loss", found.loss, where)
    yield _metric("expected calibration error", found.calibration_error, where)
    yield _metric("pictures not below the energy threshold", found.familiar, where)
    for coverage, share in zip(SET_COVERAGES, found.covered, strict=True):
        yield _metric(f"sets of coverage {coverage:g} with the right label", share, where)


def _metric(
    kind: str, value: float, where: str | None = None, interval: tuple[float, float] | None = None
) -> schema.PerformanceMetric:
    bounds = None if interval is None else schema.Interval(lower_bound=interval[0], upper_bound=interval[1])
    return schema.PerformanceMetric(type=kind, value=round(value, 6), slice=where, confidence_interval=bounds)


def _license(name: str) -> schema.License:
    return schema.License(custom_text=name) if name == "unknown" else schema.License(identifier=name)


def _data_set(sheet: DataSheet) -> schema.Dataset:
    told = [sheet.source, sheet.splits, sheet.collected, sheet.license and f"License: {sheet.license}"]
    return schema.Dataset(name=sheet.name, link=sheet.link or None, description=" ".join(filter(None, told)))


def _described(lines: Iterable[str]) -> tuple[schema.Described, ...]:
    return tuple(schema.Described(description=line) for line in lines)
