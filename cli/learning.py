"""The commands around a checkpoint: `mixer import | export | evaluate`, and `train` of cli/training.py.

They need the extras train and export; torch is loaded when one of them runs, and not before.
"""

import math
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from app.settings import PASS_ON
from cli.terminal import bar, console, need, task_of
from cli.training import train
from model.errors import ExportError
from model.recipe import Recipe
from model.spec import ModelSpec, Precision
from model.training.run_folder import best_and_last, better

if TYPE_CHECKING:
    from export.bundle import Evidence
    from model.data.dataset import Dataset
    from model.evaluation.evaluate import Evaluation, Logits
    from model.network.checkpoint import Checkpoint
    from model.preprocess import Pixels

DataArgument = Annotated[
    Path,
    typer.Argument(metavar="DATA", help="Folder of class folders (LABEL/*.jpg; train/, val/, test/) or of IDX files."),
]


class WeightsChoice(StrEnum):
    """Which weights of a training run's folder are meant."""

    BEST = "best"
    LAST = "last"


WeightsOption = Annotated[
    WeightsChoice,
    typer.Option(
        help="For a training run's folder: best, the epoch that did best on the validation pictures, or last."
    ),
]
_IMAGENET = Path("imagenet1k")
_NUM_PROOF, _NUM_CALIBRATION = 256, 512
_AT_ONCE = 64  # pictures in one run of an evaluation


def register(app: typer.Typer) -> None:
    """Add the commands of this file to `app`."""
    app.command("train", context_settings=PASS_ON, add_help_option=False)(train)
    app.command("import")(import_weights)
    app.command("export")(export)
    app.command("evaluate")(evaluate)


def import_weights(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SRC", help="google:FOLDER/NAME, timm:NAME, or a file: Google's .npz, timm's .safetensors or .pth."
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="Folder to write.")],
    labels: Annotated[
        Path | None,
        typer.Option(
            help="File with one label a line, or the word imagenet1k. Default: that if SRC says so, else numbers."
        ),
    ] = None,
    cache: Annotated[Path | None, typer.Option(help="Where downloads are kept. Default: ~/.cache/mixer-serve.")] = None,
) -> None:
    """Turn a public Mixer's weights into a checkpoint folder, downloading them where a name is given."""
    need("torch")
    from model.data.labels import read_labels  # noqa: PLC0415
    from model.network import checkpoint, download, hub, zoo  # noqa: PLC0415

    checkpoint.expect_checkpoint_folder(out)
    names = None
    if labels is not None:
        names = zoo.imagenet1k_labels() if labels == _IMAGENET else read_labels(labels)
    remote = hub.find(source)
    path = Path(source)
    if remote is not None:
        with bar() as progress:
            path = download.fetch(remote, cache or download.cache_folder(), task_of(progress, f"downloading {source}"))
    imported = zoo.read(path, names, remote)
    checkpoint.save(imported, out)
    config = imported.model.config
    typer.echo(
        f"{out}: Mixer {imported.spec.variant}, {config.image_size} pixels, patch {config.patch_size}, "
        f"{config.num_classes} classes, {config.gelu} GELU"
    )


def export(
    source: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="Checkpoint folder.")],
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder to write the graphs to.")],
    weights: WeightsOption = WeightsChoice.BEST,
    data: Annotated[
        Path | None,
        typer.Option(help="DATA whose test pictures measure the graphs, and whose training pictures calibrate int8."),
    ] = None,
    precisions: Annotated[
        str | None,
        typer.Option(
            help="Which graphs to write, as fp32,fp16,int8; fp32 is always written, and others that BUNDLE "
            "holds are removed. Default: all, but int8 only where there are pictures to take its scales from."
        ),
    ] = None,
) -> None:
    """Write a checkpoint as an ONNX bundle, each graph once it has been proved. Exit code 1 where one was refused."""
    need("onnxscript")
    from export.bundle import publish  # noqa: PLC0415
    from export.target import expect_bundle_folder  # noqa: PLC0415
    from model.evaluation.evaluate import accuracy_words  # noqa: PLC0415
    from model.network import checkpoint  # noqa: PLC0415

    named = None if precisions is None else _precisions(precisions)
    expect_bundle_folder(bundle)
    loaded = checkpoint.load(_better(source, weights))
    evidence = _evidence(loaded, data)
    published = publish(loaded, bundle, evidence, named or evidence.precisions)
    for graph in published.graphs.values():
        typer.echo(
            f"{graph.path}: differs from torch by {graph.parity.relative_difference:.1e} of the logits' range "
            f"on {graph.parity.num_pictures} pictures, same best label on {graph.parity.top1_agreement:.1%}"
        )
        if data is not None and graph.spec.metrics is not None:
            metrics = graph.spec.metrics
            typer.echo(f"{graph.path}: {accuracy_words(metrics.top1, metrics.num_pictures)} on {metrics.data_set}")
    for word, paths in (("replaced", published.earlier.replaced), ("removed", published.earlier.removed)):
        if paths:
            console.print(f"{word}, as of an earlier export: {', '.join(map(str, paths))}")
    for line in published.warnings:
        console.print(f"warning: {line}")
    for reason in published.refused.values():
        console.print(f"mixer: {reason}")
    if named is None and evidence.calibration is None:
        console.print("int8.onnx is not written: the checkpoint has no pictures to take its scales from; --data has.")
    raise typer.Exit(1 if published.refused else 0)


def _better(source: Path, weights: WeightsChoice) -> Path:
    """The checkpoint to take from `source`; says so where that is another folder."""
    taken = better(source, weights.value)
    both = best_and_last(source)
    if both is not None and taken != source:
        best, last = both
        console.print(
            f"{source}: taking {taken}, epoch {best.epoch} with top-1 {best.top1:.2%}; the last, {last.epoch}, has "
            f"{last.top1:.2%} (--weights last)"
        )
    return taken


def _precisions(text: str) -> "tuple[Precision, ...]":
    """Raises ExportError where a word is none."""
    from export.target import PRECISIONS  # noqa: PLC0415

    words = [word.strip() for word in text.split(",")]
    for word in words:
        if word not in PRECISIONS:
            raise ExportError(f"precisions names {word!r}; expected some of {', '.join(PRECISIONS)}.")
    return tuple(precision for precision in PRECISIONS if precision in words)


def _evidence(loaded: "Checkpoint", data: Path | None) -> "Evidence":
    """The pictures to make a bundle with: DATA's, or the checkpoint's own."""
    from export.bundle import Evidence, evidence_of  # noqa: PLC0415

    if data is None:
        return evidence_of(loaded)
    dataset = _dataset_for(loaded.spec, data, _recipe_of(loaded), with_training=True)
    _, pictures = dataset.judged
    if not len(dataset.train):
        console.print(f"{data} has no training pictures; int8 takes its scales from those that measure it.")
    return Evidence(
        proof=evenly(pictures.pixels, _NUM_PROOF),
        calibration=evenly((dataset.train if len(dataset.train) else pictures).pixels, _NUM_CALIBRATION),
        test=(_data_set(data, dataset), pictures),
    )


def _data_set(data: Path, dataset: "Dataset") -> str:
    """What something was judged on, in words."""
    split, pictures = dataset.judged
    num_classes = len(set(pictures.labels.tolist()))
    some = f", {num_classes} of {len(dataset.labels)} classes" if num_classes < len(dataset.labels) else ""
    return f"{data.resolve().name}, {split}{some}"


def evenly(pixels: "Pixels", most: int) -> "Pixels":
    """At most so many of the pictures, from the first to the last: class folders come one after another."""
    return pixels[:: max(1, math.ceil(len(pixels) / most))]


def evaluate(
    source: Annotated[Path, typer.Argument(metavar="CHECKPOINT|BUNDLE", help="What to judge.")],
    data: DataArgument,
    weights: WeightsOption = WeightsChoice.BEST,
    precision: Annotated[
        str, typer.Option(help="For a BUNDLE: fp32, fp16, int8, or auto as the service has it.")
    ] = "auto",
    val_fraction: Annotated[float, typer.Option(help="For a BUNDLE: as in training, where DATA has no val/.")] = 0.1,
    seed: Annotated[int, typer.Option(help="For a BUNDLE: as in training, where DATA has no val/.")] = 0,
    report: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write report.html there, with every class and two diagrams.")
    ] = None,
) -> None:
    """Judge a checkpoint or a bundle on DATA's test pictures, or its validation pictures where there are none.

    DATA's class folders are the model's labels, or some of them.
    """
    from model.evaluation.evaluate import all_logits, evaluate_logits  # noqa: PLC0415

    spec, logits_of, remembered = _opened(_better(source, weights), precision)
    recipe = remembered or Recipe(val_fraction=val_fraction, seed=seed)
    dataset = _dataset_for(spec, data, recipe)
    split, pictures = dataset.judged
    title = f"{spec.name} on {_data_set(data, dataset)}"
    logits = all_logits(logits_of, pictures, batch_size=_AT_ONCE)
    _print_evaluation(evaluate_logits(logits, pictures.labels, spec.temperature), title)
    if report is not None:
        need("matplotlib")
        from model.evaluation.report import write_report  # noqa: PLC0415

        settings = {
            "model": str(source),
            "data": f"{data}, {len(pictures)} {split} pictures",
            "held out": f"{recipe.val_fraction:g} of each class, seed {recipe.seed}" if dataset.is_held_out else "no",
            **_settings_of(spec),
        }
        typer.echo(write_report(report, title, spec.labels, logits, pictures, spec.temperature, settings))


def _settings_of(spec: ModelSpec) -> dict[str, str]:
    """How this classifier sees pictures, for a report."""
    return {
        "variant": spec.variant,
        "image size": f"{spec.image_size} pixels, patches of {spec.patch_size}, {spec.channels} channels",
        "fit": f"{spec.fit.mode}, {spec.fit.crop_percentage:g} of the shorter side, background {spec.fit.background}",
        "interpolation": spec.interpolation,
        "temperature": f"{spec.temperature:.4g}",
        "origin": spec.source.origin,
    }


def _recipe_of(loaded: "Checkpoint") -> Recipe:
    """The recipe that a checkpoint remembers, for its split; an imported one has none."""
    return Recipe.model_validate(loaded.training.get("recipe", {}))


def _opened(source: Path, precision: str) -> "tuple[ModelSpec, Callable[[Pixels], Logits], Recipe | None]":
    """A checkpoint or a bundle as a function from pixels to logits, and the recipe where it is remembered."""
    if (source / "config.json").is_file():
        need("torch")
        from model.network import checkpoint  # noqa: PLC0415

        loaded: Checkpoint = checkpoint.load(source)
        return loaded.spec, lambda pixels: checkpoint.torch_logits(loaded.model, pixels), _recipe_of(loaded)
    from app.engine.engine import EngineOptions, open_engine  # noqa: PLC0415
    from model.preprocess import patchify  # noqa: PLC0415

    engine = open_engine(EngineOptions(source, precision=precision, lanes=1, max_batch_size=_AT_ONCE))
    console.print(f"{source}: {engine.precision} on {engine.provider}")
    return engine.spec, lambda pixels: engine.run(list(patchify(pixels, engine.spec.patch_size))), None


def _dataset_for(spec: ModelSpec, data: Path, recipe: Recipe, *, with_training: bool = False) -> "Dataset":
    """DATA as this classifier sees it, read under a progress bar; says what was found. Raises DataError."""
    from model.data.dataset import Picturing, load_for  # noqa: PLC0415
    from model.evaluation.inventory import describe_judged  # noqa: PLC0415

    with bar() as progress:
        dataset = load_for(
            data,
            Picturing(spec.image_size, spec.channels, spec.fit, spec.interpolation),
            spec.labels,
            with_training=with_training,
            val_fraction=recipe.val_fraction,
            seed=recipe.seed,
            progress=task_of(progress, "reading pictures"),
        )
    for line in describe_judged(dataset):
        console.print(line)
    return dataset


def _print_evaluation(evaluation: "Evaluation", title: str) -> None:
    table = Table(title=title)
    for column in ("pictures", "top-1", "95 % interval", "top-5", "loss", "calibration error"):
        table.add_column(column, justify="right")
    low, high = evaluation.top1_interval
    table.add_row(
        str(evaluation.num_pictures),
        f"{evaluation.top1:.2%}",
        f"{low:.1%} to {high:.1%}",
        f"{evaluation.top5:.2%}",
        f"{evaluation.loss:.4f}",
        f"{evaluation.calibration_error:.4f}",
    )
    Console(width=100).print(table)
