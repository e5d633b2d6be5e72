"""The commands that learn and publish: `mixer train | import | export | evaluate`.

They need the extras train and export; torch is loaded when one of them runs, and not before.
"""

from collections.abc import Callable
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from pydantic import Field
from pydantic_settings import BaseSettings, CliPositionalArg, PydanticBaseSettingsSource, SettingsConfigDict
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from app.settings import parse
from model.errors import DataError, MixerError
from model.recipe import Recipe
from model.spec import Fit, ModelSpec, Source

if TYPE_CHECKING:
    from model.checkpoint import Checkpoint
    from model.data import Dataset, PictureSet
    from model.evaluate import Evaluation, Logits
    from model.preprocess import Pixels
    from model.train import EpochReport

PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}  # flags that settings.parse reads

console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)

DataArgument = Annotated[
    Path,
    typer.Argument(metavar="DATA", help="Folder of class folders (LABEL/*.jpg; train/, val/, test/) or of IDX files."),
]
LabelsOption = Annotated[Path | None, typer.Option(help="File with one label a line, in the order of the classes.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this file to `app`."""
    app.command("train", context_settings=PASS_ON, add_help_option=False)(train)
    app.command("import")(import_weights)
    app.command("export")(export)
    app.command("evaluate")(evaluate)


class TrainOptions(Recipe, BaseSettings):
    """Train a Mixer from scratch on DATA and write a checkpoint folder. A killed run in that folder is resumed."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", cli_kebab_case=True)

    data: CliPositionalArg[Path] = Field(
        description="Folder of class folders (LABEL/*.jpg; train/, val/) or IDX files."
    )
    out: Path = Field(description="Checkpoint folder to write.")
    labels: Path | None = Field(default=None, description="File with one label a line: names for IDX classes.")
    name: str | None = Field(default=None, description="Name of the classifier. Default: the folder's.")
    licence: str = Field(default="unknown", description="Licence of the weights.")
    image_size: int = Field(default=64, ge=1, description="Pictures become this many pixels square.")
    channels: int = Field(default=3, ge=1, description="3 for colour, 1 for grey.")
    fit: Literal["crop", "pad", "stretch"] = Field(default="pad", description="How a picture becomes a square.")
    patch_size: int = Field(default=8, ge=1, description="Pixels of a patch's side; divides image-size.")
    hidden_dim: int = Field(default=128, ge=1, description="Width of a token.")
    num_blocks: int = Field(default=8, ge=1, description="Mixer blocks.")
    tokens_mlp_dim: int = Field(default=64, ge=1, description="Width of the token-mixing MLP.")
    channels_mlp_dim: int = Field(default=512, ge=1, description="Width of the channel-mixing MLP.")
    stochastic_depth: float = Field(default=0.0, ge=0, lt=1, description="Drop rate of the last block's branches.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags only: a training run should not depend on the environment."""
        return (init_settings,)


def train(context: typer.Context) -> None:
    """Train a Mixer from scratch on DATA and write a checkpoint folder; see mixer train --help."""
    _need("torch", "train")
    from model import train as training  # noqa: PLC0415
    from model.mixer import MixerConfig  # noqa: PLC0415

    options = parse(TrainOptions, context.args, "mixer train")
    recipe = Recipe.model_validate(options.model_dump(include=set(Recipe.model_fields)))
    dataset = _load(options, recipe)
    try:
        config = MixerConfig(
            num_classes=len(dataset.labels),
            **options.model_dump(include={field.name for field in fields(MixerConfig)}),
        )
    except ValueError as error:
        raise MixerError(str(error)) from error
    spec = ModelSpec(
        name=options.name or options.out.resolve().name,
        labels=dataset.labels,
        num_classes=len(dataset.labels),
        fit=Fit(mode=options.fit),
        source=Source(origin=f"trained on {options.data.name}", licence=options.licence),
        **options.model_dump(include={"image_size", "patch_size", "channels"}),
    )
    with _bar() as progress:
        observer = training.Observer(_progress(progress, "training"), _announce_epoch)
        checkpoint = training.train(dataset, config, recipe, spec, options.out, observer=observer)
    assert checkpoint.spec.metrics is not None  # noqa: S101 -- training has just measured them
    typer.echo(f"{options.out}: top-1 {checkpoint.spec.metrics.top1:.2%} on {len(dataset.val)} validation pictures")


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
    from model import idx  # noqa: PLC0415
    from model.data import Picturing, load  # noqa: PLC0415

    picturing = Picturing(spec.image_size, spec.channels, spec.fit, spec.interpolation)
    labels = spec.labels if idx.has_split(data, "train") else None
    with _bar() as progress:
        dataset = load(data, picturing, labels=labels, progress=_progress(progress, "reading pictures"))
    _report_skipped(dataset)
    if dataset.labels != spec.labels:
        raise DataError(f"{data} has the classes {', '.join(dataset.labels)}; expected {', '.join(spec.labels)}.")
    return dataset


def _load(options: TrainOptions, recipe: Recipe) -> "Dataset":
    from model.data import Picturing, load, read_labels  # noqa: PLC0415

    names = read_labels(options.labels) if options.labels is not None else None
    picturing = Picturing(options.image_size, options.channels, Fit(mode=options.fit))
    with _bar() as progress:
        dataset = load(
            options.data,
            picturing,
            val_fraction=recipe.val_fraction,
            seed=recipe.seed,
            labels=names,
            progress=_progress(progress, "reading pictures"),
        )
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
