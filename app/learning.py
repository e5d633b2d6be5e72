"""The commands that learn and publish: `mixer train | import | export | evaluate`.

They need the extras train and export; torch is loaded when one of them runs, and not before.
"""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from model.errors import DataError, MixerError
from model.spec import Fit, ModelSpec, Source

if TYPE_CHECKING:
    from model.checkpoint import Checkpoint
    from model.data import Dataset, PictureSet, Picturing
    from model.evaluate import Evaluation, Logits
    from model.preprocess import Pixels
    from model.train import EpochReport

console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)

DataArgument = Annotated[
    Path,
    typer.Argument(metavar="DATA", help="Folder of class folders (LABEL/*.jpg; train/, val/, test/) or of IDX files."),
]
LabelsOption = Annotated[Path | None, typer.Option(help="File with one label a line, in the order of the classes.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this file to `app`."""
    for name, command in (("train", train), ("import", import_weights), ("export", export), ("evaluate", evaluate)):
        app.command(name)(command)


def train(
    data: DataArgument,
    out: Annotated[Path, typer.Option(metavar="CHECKPOINT", help="Folder to write; a killed run in it is resumed.")],
    labels: LabelsOption = None,
    name: Annotated[str | None, typer.Option(help="Name of the classifier. Default: the folder's.")] = None,
    licence: Annotated[str, typer.Option(help="Licence of the weights.")] = "unknown",
    image_size: Annotated[int, typer.Option(help="Pictures become this many pixels square.")] = 64,
    channels: Annotated[int, typer.Option(help="3 for colour, 1 for grey.")] = 3,
    fit: Annotated[str, typer.Option(help="crop, pad or stretch: how a picture becomes square.")] = "pad",
    patch_size: Annotated[int, typer.Option(help="Pixels of a patch's side; divides the image size.")] = 8,
    hidden_dim: Annotated[int, typer.Option(help="Width of a token.")] = 128,
    num_blocks: Annotated[int, typer.Option(help="Mixer blocks.")] = 8,
    tokens_mlp_dim: Annotated[int, typer.Option(help="Width of the token-mixing MLP.")] = 64,
    channels_mlp_dim: Annotated[int, typer.Option(help="Width of the channel-mixing MLP.")] = 512,
    stochastic_depth: Annotated[float, typer.Option(help="Rate at the last block; it rises linearly to this.")] = 0.0,
    epochs: Annotated[int, typer.Option(help="How often every picture is seen.")] = 30,
    batch_size: Annotated[int, typer.Option(help="Pictures in a step.")] = 256,
    optimiser: Annotated[str, typer.Option(help="adamw or muon.")] = "adamw",
    learning_rate: Annotated[float, typer.Option(help="Highest rate, reached after the warm-up.")] = 1e-3,
    weight_decay: Annotated[float, typer.Option(help="On kernels only.")] = 0.1,
    warmup_epochs: Annotated[float, typer.Option(help="Epochs in which the rate rises.")] = 2.0,
    label_smoothing: Annotated[float, typer.Option(help="Share of the label given to all classes.")] = 0.1,
    flip: Annotated[float, typer.Option(help="Probability of mirroring left to right.")] = 0.5,
    shift_pixels: Annotated[int, typer.Option(help="Largest random shift each way.")] = 0,
    erase: Annotated[float, typer.Option(help="Probability of erasing a rectangle.")] = 0.0,
    invert: Annotated[float, typer.Option(help="Probability of exchanging light and dark.")] = 0.0,
    autocast: Annotated[str, typer.Option(help="off, or bf16 where the processor has it.")] = "off",
    val_fraction: Annotated[float, typer.Option(help="Share held out where DATA has no val/.")] = 0.1,
    seed: Annotated[int, typer.Option(help="Same seed, same run.")] = 0,
) -> None:
    """Train a Mixer from scratch on DATA and write a checkpoint folder."""
    _need("torch", "train")
    from model import data as pictures  # noqa: PLC0415
    from model import train as training  # noqa: PLC0415
    from model.augment import Augmentation  # noqa: PLC0415
    from model.mixer import MixerConfig  # noqa: PLC0415

    try:
        picturing = pictures.Picturing(image_size, channels, Fit.model_validate({"mode": fit}))
        recipe = training.Recipe(
            epochs=epochs,
            batch_size=batch_size,
            optimiser=optimiser,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            warmup_epochs=warmup_epochs,
            label_smoothing=label_smoothing,
            autocast=autocast,
            val_fraction=val_fraction,
            seed=seed,
            augmentation=Augmentation(flip=flip, shift_pixels=shift_pixels, erase=erase, invert=invert),
        )
        dataset = _load(data, picturing, labels, val_fraction, seed)
        config = MixerConfig(
            image_size=image_size,
            patch_size=patch_size,
            hidden_dim=hidden_dim,
            num_blocks=num_blocks,
            tokens_mlp_dim=tokens_mlp_dim,
            channels_mlp_dim=channels_mlp_dim,
            channels=channels,
            num_classes=len(dataset.labels),
            stochastic_depth=stochastic_depth,
        )
        spec = ModelSpec(
            name=name or out.resolve().name,
            image_size=image_size,
            patch_size=patch_size,
            channels=3 if channels == 3 else 1,
            num_classes=len(dataset.labels),
            labels=dataset.labels,
            fit=picturing.fit,
            interpolation=picturing.interpolation,
            source=Source(origin=f"trained on {data.name}", licence=licence),
        )
    except ValueError as error:
        raise MixerError(_complaint(error)) from error
    with _bar() as progress:
        steps = _progress(progress, "training")
        checkpoint = training.train(
            dataset, config, recipe, spec, out, observer=training.Observer(steps, _announce_epoch)
        )
    assert checkpoint.spec.metrics is not None  # noqa: S101 -- training has just measured them
    typer.echo(f"{out}: top-1 {checkpoint.spec.metrics.top1:.2%} on {len(dataset.val)} validation pictures")


def import_weights(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Google's .npz or timm's .safetensors.")],
    out: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="Folder to write.")],
    labels: LabelsOption = None,
) -> None:
    """Turn a public Mixer's weight file into a checkpoint folder."""
    _need("torch", "train")
    from model import checkpoint, zoo  # noqa: PLC0415
    from model.data import read_labels  # noqa: PLC0415

    imported = zoo.read(source, read_labels(labels) if labels is not None else None)
    checkpoint.save(imported, out)
    config = imported.model.config
    typer.echo(
        f"{out}: Mixer {imported.spec.variant}, {config.image_size} pixels, patch {config.patch_size}, "
        f"{config.num_classes} classes, {config.gelu} GELU"
    )


def export(
    source: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="Checkpoint folder.")],
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder to write the graph to.")],
    data: Annotated[
        Path | None, typer.Option(help="DATA whose test pictures measure the graph, and whose pictures prove it.")
    ] = None,
) -> None:
    """Write a checkpoint as an ONNX bundle, once it has been proved equal to torch."""
    _need("onnxscript", "export")
    from export.bundle import publish  # noqa: PLC0415
    from model import checkpoint  # noqa: PLC0415

    loaded = checkpoint.load(source)
    if data is None:
        published = publish(loaded, bundle)
    else:
        split, pictures = _judged(_dataset_for(loaded.spec, data))
        published = publish(loaded, bundle, pictures=pictures.pixels[:64], test=(f"{data.name}, {split}", pictures))
    parity = published.parity
    typer.echo(
        f"{published.path}: differs from torch by {parity.relative_difference:.1e} of the logits' range "
        f"on {parity.num_pictures} pictures, same best label on {parity.top1_agreement:.0%}"
    )
    if data is not None and published.spec.metrics is not None:
        typer.echo(f"{published.path}: top-1 {published.spec.metrics.top1:.2%} on {published.spec.metrics.data_set}")


def evaluate(
    source: Annotated[Path, typer.Argument(metavar="CHECKPOINT|BUNDLE", help="What to judge.")],
    data: DataArgument,
) -> None:
    """Judge a checkpoint or a bundle on DATA's test pictures, or its validation pictures where there are none."""
    from model.evaluate import evaluate as judge  # noqa: PLC0415

    spec, logits_of = _opened(source)
    split, pictures = _judged(_dataset_for(spec, data))
    _print_evaluation(judge(logits_of, pictures, temperature=spec.temperature), f"{data.name}, {split}")


def _opened(source: Path) -> "tuple[ModelSpec, Callable[[Pixels], Logits]]":
    """A checkpoint or a bundle as a function from pixels to logits."""
    if (source / "config.json").is_file():
        _need("torch", "train")
        from model import checkpoint  # noqa: PLC0415

        loaded: Checkpoint = checkpoint.load(source)
        return loaded.spec, lambda pixels: checkpoint.torch_logits(loaded.model, pixels)
    from app.engine import EngineOptions, open_engine  # noqa: PLC0415
    from model.preprocess import patchify  # noqa: PLC0415

    engine = open_engine(EngineOptions(source, max_batch_size=1))
    return engine.spec, lambda pixels: engine.run(list(patchify(pixels, engine.spec.patch_size)))


def _dataset_for(spec: ModelSpec, data: Path) -> "Dataset":
    """DATA as this classifier sees it. Raises DataError where its classes are others."""
    from model.data import Picturing, load  # noqa: PLC0415

    picturing = Picturing(spec.image_size, spec.channels, spec.fit, spec.interpolation)
    labels = spec.labels if any(data.glob("*-idx3-ubyte*")) else None
    with _bar() as progress:
        dataset = load(data, picturing, labels=labels, progress=_progress(progress, "reading pictures"))
    _report_skipped(dataset)
    if dataset.labels != spec.labels:
        raise DataError(f"{data} has the classes {', '.join(dataset.labels)}; expected {', '.join(spec.labels)}.")
    return dataset


def _load(data: Path, picturing: "Picturing", labels: Path | None, val_fraction: float, seed: int) -> "Dataset":
    from model.data import load, read_labels  # noqa: PLC0415

    names = read_labels(labels) if labels is not None else None
    with _bar() as progress:
        reading = _progress(progress, "reading pictures")
        dataset = load(data, picturing, val_fraction=val_fraction, seed=seed, labels=names, progress=reading)
    _report_skipped(dataset)
    return dataset


def _judged(dataset: "Dataset") -> "tuple[str, PictureSet]":
    return ("test", dataset.test) if dataset.test is not None else ("validation", dataset.val)


def _report_skipped(dataset: "Dataset") -> None:
    for _, reason in dataset.skipped:
        console.print(f"skipped: {reason}")


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


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console)


def _progress(progress: Progress, description: str) -> Callable[[int, int], None]:
    task = progress.add_task(description, total=None)
    return lambda done, total: progress.update(task, completed=done, total=total)


def _need(module: str, extra: str) -> None:
    if find_spec(module) is None:
        raise MixerError(f"This command needs {module}; install it with: pip install 'mixer-serve[{extra}]'.")


def _announce_epoch(report: "EpochReport") -> None:
    console.print(
        f"epoch {report.epoch}: training loss {report.train_loss:.4f}, validation loss {report.val_loss:.4f}, "
        f"top-1 {report.val_top1:.2%}, {report.images_per_s:.0f} images/s"
    )


def _complaint(error: ValueError) -> str:
    """One line of a validation error, naming the field and its value."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))} is {first['input']!r}: {first['msg']}."
