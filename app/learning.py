"""The commands around a checkpoint: `mixer import | export | evaluate`, and `train` of training.py.

They need the extras train and export; torch is loaded when one of them runs, and not before.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from app.settings import PASS_ON
from app.terminal import bar, console, need, task_of
from app.training import load_pictures, train
from model.errors import DataError, ExportError
from model.recipe import Recipe
from model.spec import ModelSpec, Precision

if TYPE_CHECKING:
    from export.bundle import Evidence
    from model.checkpoint import Checkpoint
    from model.data import Dataset, PictureSet
    from model.evaluate import Evaluation, Logits
    from model.preprocess import Pixels

DataArgument = Annotated[
    Path,
    typer.Argument(metavar="DATA", help="Folder of class folders (LABEL/*.jpg; train/, val/, test/) or of IDX files."),
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
            metavar="SRC", help="google:FOLDER/NAME, timm:NAME, or a file: Google's .npz, timm's .safetensors."
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
    from model import checkpoint, hub, zoo  # noqa: PLC0415
    from model.labels import read_labels  # noqa: PLC0415

    names = None
    if labels is not None:
        names = zoo.imagenet1k_labels() if labels == _IMAGENET else read_labels(labels)
    remote = hub.find(source)
    path = Path(source)
    if remote is not None:
        with bar() as progress:
            path = hub.fetch(remote, cache or hub.cache_folder(), task_of(progress, f"downloading {source}"))
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
    data: Annotated[
        Path | None,
        typer.Option(help="DATA whose test pictures measure the graphs, and whose training pictures calibrate int8."),
    ] = None,
    precisions: Annotated[
        str | None,
        typer.Option(
            help="Which graphs to write, as fp32,fp16,int8; fp32 is always written. Default: all, but int8 only where "
            "there are pictures to take its scales from."
        ),
    ] = None,
) -> None:
    """Write a checkpoint as an ONNX bundle, each graph once it has been proved. Exit code 1 where one was refused."""
    need("onnxscript")
    from export.bundle import publish  # noqa: PLC0415
    from model import checkpoint  # noqa: PLC0415

    named = None if precisions is None else _precisions(precisions)
    loaded = checkpoint.load(source)
    evidence = _evidence(loaded, data)
    published = publish(loaded, bundle, evidence, named or evidence.precisions)
    for graph in published.graphs.values():
        typer.echo(
            f"{graph.path}: differs from torch by {graph.parity.relative_difference:.1e} of the logits' range "
            f"on {graph.parity.num_pictures} pictures, same best label on {graph.parity.top1_agreement:.1%}"
        )
        if data is not None and graph.spec.metrics is not None:
            typer.echo(f"{graph.path}: top-1 {graph.spec.metrics.top1:.2%} on {graph.spec.metrics.data_set}")
    for reason in published.refused.values():
        console.print(f"mixer: {reason}")
    if named is None and evidence.calibration is None:
        console.print("int8.onnx is not written: the checkpoint has no pictures to take its scales from; --data has.")
    raise typer.Exit(1 if published.refused else 0)


def _precisions(text: str) -> "tuple[Precision, ...]":
    """Raises ExportError where a word is none."""
    from export.bundle import PRECISIONS  # noqa: PLC0415

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
    dataset = _dataset_for(loaded.spec, data, _recipe_of(loaded))
    split, pictures = _judged(dataset)
    return Evidence(
        proof=evenly(pictures.pixels, _NUM_PROOF),
        calibration=evenly(dataset.train.pixels, _NUM_CALIBRATION),
        test=(f"{data.name}, {split}", pictures),
    )


def evenly(pixels: "Pixels", most: int) -> "Pixels":
    """At most so many of the pictures, from the first to the last: class folders come one after another."""
    return pixels[:: max(1, math.ceil(len(pixels) / most))]


def evaluate(
    source: Annotated[Path, typer.Argument(metavar="CHECKPOINT|BUNDLE", help="What to judge.")],
    data: DataArgument,
    precision: Annotated[
        str, typer.Option(help="For a BUNDLE: fp32, fp16, int8, or auto as the service has it.")
    ] = "auto",
    val_fraction: Annotated[float, typer.Option(help="For a BUNDLE: as in training, where DATA has no val/.")] = 0.1,
    seed: Annotated[int, typer.Option(help="For a BUNDLE: as in training, where DATA has no val/.")] = 0,
    report: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write report.html there, with every class and two diagrams.")
    ] = None,
) -> None:
    """Judge a checkpoint or a bundle on DATA's test pictures, or its validation pictures where there are none."""
    from model.evaluate import all_logits, evaluate_logits  # noqa: PLC0415

    spec, logits_of, recipe = _opened(source, precision)
    dataset = _dataset_for(spec, data, recipe or Recipe(val_fraction=val_fraction, seed=seed))
    split, pictures = _judged(dataset)
    title = f"{spec.name} on {data.name}, {split}"
    logits = all_logits(logits_of, pictures, batch_size=_AT_ONCE)
    _print_evaluation(evaluate_logits(logits, pictures.labels, spec.temperature), title)
    if report is not None:
        need("matplotlib")
        from model.report import write_report  # noqa: PLC0415

        typer.echo(write_report(report, title, spec.labels, logits, pictures.labels, spec.temperature))


def _recipe_of(loaded: "Checkpoint") -> Recipe:
    """The recipe that a checkpoint remembers, for its split; an imported one has none."""
    return Recipe.model_validate(loaded.training.get("recipe", {}))


def _opened(source: Path, precision: str) -> "tuple[ModelSpec, Callable[[Pixels], Logits], Recipe | None]":
    """A checkpoint or a bundle as a function from pixels to logits, and the recipe where it is remembered."""
    if (source / "config.json").is_file():
        need("torch")
        from model import checkpoint  # noqa: PLC0415

        loaded: Checkpoint = checkpoint.load(source)
        return loaded.spec, lambda pixels: checkpoint.torch_logits(loaded.model, pixels), _recipe_of(loaded)
    from app.engine import EngineOptions, open_engine  # noqa: PLC0415
    from model.preprocess import patchify  # noqa: PLC0415

    engine = open_engine(EngineOptions(source, precision=precision, lanes=1, max_batch_size=_AT_ONCE))
    console.print(f"{source}: {engine.precision} on {engine.provider}")
    return engine.spec, lambda pixels: engine.run(list(patchify(pixels, engine.spec.patch_size))), None


def _dataset_for(spec: ModelSpec, data: Path, recipe: Recipe) -> "Dataset":
    """DATA as this classifier sees it. Raises DataError where its classes are others."""
    from model import idx  # noqa: PLC0415
    from model.data import Picturing  # noqa: PLC0415

    picturing = Picturing(spec.image_size, spec.channels, spec.fit, spec.interpolation)
    dataset = load_pictures(data, picturing, recipe, spec.labels if idx.has_split(data, "train") else None)
    if dataset.labels != spec.labels:
        raise DataError(f"{data} has the classes {', '.join(dataset.labels)}; expected {', '.join(spec.labels)}.")
    return dataset


def _judged(dataset: "Dataset") -> "tuple[str, PictureSet]":
    return ("test", dataset.test) if dataset.test is not None else ("validation", dataset.val)


def _print_evaluation(evaluation: "Evaluation", title: str) -> None:
    table = Table(title=title)
    for column in ("pictures", "top-1", "top-5", "loss", "calibration error"):
        table.add_column(column, justify="right")
    table.add_row(
        str(evaluation.num_pictures),
        f"{evaluation.top1:.2%}",
        f"{evaluation.top5:.2%}",
        f"{evaluation.loss:.4f}",
        f"{evaluation.calibration_error:.4f}",
    )
    Console(width=100).print(table)
