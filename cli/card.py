"""`mixer card`: the model card of a bundle, and the short one that every export leaves."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.evaluation import DataArgument, SeedOption, ValFractionOption, data_set, dataset_for, opened
from cli.judging import MOST_PICTURES, Beyond, PicturesOption, UnfamiliarOption, judge
from cli.terminal import console, require_extra
from model.errors import ExportError
from model.recipe import Recipe

if TYPE_CHECKING:
    from export.card.facts import Throughput
    from model.data.dataset import ImageSet
    from model.evaluation.findings import Findings
    from model.spec import ModelSpec

_SECONDS, _ROUNDS = 0.5, 5  # of a measurement


def card(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder of graphs to write the card into.")],
    data: DataArgument,
    robustness: Annotated[
        bool, typer.Option(help="Also under corruptions, moved, and on pictures of no class.")
    ] = True,
    out_of_distribution: UnfamiliarOption = None,
    pictures: PicturesOption = MOST_PICTURES,
    precision: Annotated[str, typer.Option(help="Which graph to judge: fp32, fp16 or int8.")] = "fp32",
    measure: Annotated[bool, typer.Option(help="Also how many images a second this machine answers.")] = False,
    val_fraction: ValFractionOption = 0.1,
    seed: SeedOption = 0,
) -> None:
    """Judge a bundle on DATA, and write README.md, card.json and charts/ into it.

    BUNDLE/card.toml has what only people can say. What README.md says outside of the card's markers is kept.
    """
    for module in ("onnx", "matplotlib"):
        require_extra(module)
    from export.card.facts import CardFacts, read_graphs  # noqa: PLC0415
    from export.card.prose import read_prose  # noqa: PLC0415
    from export.card.writing import write_card  # noqa: PLC0415

    graphs = read_graphs(bundle)
    judged, names = f"{precision}.onnx", [graph.name for graph in graphs]
    if judged not in names:
        raise ExportError(f"--precision is {precision!r}; expected that of a graph in {bundle}: {', '.join(names)}.")
    read_prose(bundle)  # a mistake in it is told before anything takes long
    throughput = _measured(bundle) if measure else None
    spec, logits_of, _ = opened(bundle, precision)
    dataset = dataset_for(spec, data, Recipe(val_fraction=val_fraction, seed=seed))
    beyond = Beyond(robustness, out_of_distribution, pictures, seed)
    _, findings = judge(logits_of, spec, data_set(data, dataset), dataset.judged[1], beyond)
    typer.echo(write_card(bundle, CardFacts(graphs, findings, judged, throughput)))


def card_of_export(checkpoint: Path, bundle: Path, test: "tuple[str, ImageSet] | None") -> None:
    """The card of a bundle that was just written, judged on `test` where there is one: a name and pictures."""
    from export.card.facts import CardFacts, read_graphs  # noqa: PLC0415
    from export.card.prose import bring_prose  # noqa: PLC0415
    from export.card.writing import write_card  # noqa: PLC0415

    bring_prose(checkpoint, bundle)
    graphs = read_graphs(bundle)
    findings = None if test is None else _judged(bundle / graphs[0].name, graphs[0].spec, *test)
    console.print(f"{write_card(bundle, CardFacts(graphs, findings, graphs[0].name))}: the model card")


def _judged(graph: Path, spec: "ModelSpec", name: str, images: "ImageSet") -> "Findings":
    from export.parity import GraphRunner  # noqa: PLC0415

    _, findings = judge(GraphRunner(graph, spec.patch_size).logits, spec, name, images, Beyond())
    return findings


def _measured(bundle: Path) -> "Throughput":
    """Of the graph that the service would take here, with all processors."""
    import numpy as np  # noqa: PLC0415

    from app.engine.engine import EngineOptions, open_engine  # noqa: PLC0415
    from app.system.cpu_limits import usable_cpus  # noqa: PLC0415
    from cli.bench.comparison import processor_name  # noqa: PLC0415
    from cli.bench.stopwatch import Candidate, measure  # noqa: PLC0415
    from export.card.facts import Throughput  # noqa: PLC0415

    engine = open_engine(EngineOptions(bundle))
    spec, count = engine.spec, engine.max_batch_size
    generator = np.random.default_rng(0)
    patches = list(generator.integers(0, 256, (count, spec.num_patches, spec.patch_bytes), dtype=np.uint8))

    def work() -> float:
        return len(engine.run(patches).logits)

    rates = measure([Candidate("engine", work, engine.instances)], seconds=_SECONDS, rounds=_ROUNDS)
    machine = f"{processor_name()}, {usable_cpus()} CPUs, {engine.provider}"
    return Throughput(rates["engine"].rate, f"{engine.precision}.onnx", machine)
