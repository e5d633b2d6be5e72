"""`mixer train`: its options, from a checkpoint or from scratch. Torch is loaded when it runs, and not before."""

from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer
from pydantic import Field
from pydantic_settings import BaseSettings, CliPositionalArg, PydanticBaseSettingsSource, SettingsConfigDict

from app.settings import parse
from app.terminal import bar, console, need, report_skipped, task_of
from model.errors import MixerError
from model.recipe import Recipe
from model.spec import Fit, ModelSpec, Source

if TYPE_CHECKING:
    from model.checkpoint import Checkpoint
    from model.data import Dataset, Picturing
    from model.mixer import MixerConfig, MlpMixer
    from model.train import EpochReport

_SIZES = {"channels", "patch_size", "hidden_dim", "num_blocks", "tokens_mlp_dim", "channels_mlp_dim"}


class TrainOptions(Recipe, BaseSettings):
    """Train a Mixer on DATA and write a checkpoint folder. A killed run in that folder is resumed."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", cli_kebab_case=True)

    data: CliPositionalArg[Path] = Field(
        description="Folder of class folders (LABEL/*.jpg; train/, val/) or IDX files."
    )
    out: Path = Field(description="Checkpoint folder to write.")
    init: Path | None = Field(
        default=None,
        description="Checkpoint to start from, ours or imported. Its sizes hold; image-size may be a multiple.",
    )
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
    """Train a Mixer on DATA and write a checkpoint folder; see mixer train --help."""
    need("torch", "train")
    from model import checkpoint  # noqa: PLC0415
    from model import train as training  # noqa: PLC0415
    from model.data import read_labels  # noqa: PLC0415
    from model.mixer import variant_name  # noqa: PLC0415

    options = parse(TrainOptions, context.args, "mixer train")
    recipe = Recipe.model_validate(options.model_dump(include=set(Recipe.model_fields)))
    base = checkpoint.load(options.init) if options.init is not None else None
    picturing = _picturing(options, base)
    names = read_labels(options.labels) if options.labels is not None else None
    dataset = load_pictures(options.data, picturing, recipe, names)
    initial = None if base is None else _adapted(base, picturing.image_size, dataset.labels)
    config = _config(options, initial, len(dataset.labels))
    spec = ModelSpec(
        name=options.name or options.out.resolve().name,
        variant=variant_name(config),
        image_size=config.image_size,
        patch_size=config.patch_size,
        channels=3 if config.channels == 3 else 1,
        num_classes=config.num_classes,
        labels=dataset.labels,
        fit=picturing.fit,
        interpolation=picturing.interpolation,
        source=Source(origin=_origin(options, base), licence=options.licence),
    )
    with bar() as progress:
        observer = training.Observer(task_of(progress, "training"), _announce_epoch)
        result = training.train(dataset, config, recipe, spec, options.out, initial=initial, observer=observer)
    assert result.spec.metrics is not None  # noqa: S101 -- training has just measured them
    typer.echo(f"{options.out}: top-1 {result.spec.metrics.top1:.2%} on {len(dataset.val)} validation pictures")


def _picturing(options: TrainOptions, base: "Checkpoint | None") -> "Picturing":
    """How pictures enter: as the flags say, or as the checkpoint was used to, where they do not."""
    from model.data import Picturing  # noqa: PLC0415

    if base is None:
        return Picturing(options.image_size, options.channels, Fit(mode=options.fit))
    given, config = options.model_fields_set, base.model.config
    for name in _SIZES & given:
        if getattr(options, name) != getattr(config, name):
            raise MixerError(f"{name} is {getattr(options, name)}; the checkpoint has {getattr(config, name)}.")
    return Picturing(
        options.image_size if "image_size" in given else config.image_size,
        config.channels,
        Fit(mode=options.fit) if "fit" in given else base.spec.fit,
        base.spec.interpolation,
    )


def _adapted(base: "Checkpoint", image_size: int, labels: tuple[str, ...]) -> "MlpMixer":
    """The checkpoint's network at this resolution, with a new head unless its classes are these."""
    from model.transfer import at_resolution, with_new_head  # noqa: PLC0415

    grown = at_resolution(base.model, image_size)
    return grown if labels == base.spec.labels else with_new_head(grown, len(labels))


def _config(options: TrainOptions, initial: "MlpMixer | None", num_classes: int) -> "MixerConfig":
    from model.mixer import MixerConfig  # noqa: PLC0415

    if initial is not None:
        return replace(initial.config, stochastic_depth=options.stochastic_depth)
    try:
        sizes = options.model_dump(include={field.name for field in fields(MixerConfig)})
        return MixerConfig(num_classes=num_classes, **sizes)
    except ValueError as error:
        raise MixerError(str(error)) from error


def _origin(options: TrainOptions, base: "Checkpoint | None") -> str:
    return f"trained on {options.data.name}" + (f" from {base.spec.name}" if base is not None else "")


def load_pictures(data: Path, picturing: "Picturing", recipe: Recipe, labels: tuple[str, ...] | None) -> "Dataset":
    """DATA under a progress bar, split as the recipe says; pictures that cannot be read are named. Raises DataError."""
    from model.data import load  # noqa: PLC0415

    with bar() as progress:
        dataset = load(
            data,
            picturing,
            val_fraction=recipe.val_fraction,
            seed=recipe.seed,
            labels=labels,
            progress=task_of(progress, "reading pictures"),
        )
    report_skipped(dataset.skipped)
    return dataset


def _announce_epoch(report: "EpochReport") -> None:
    console.print(
        f"epoch {report.epoch}: training loss {report.train_loss:.4f}, validation loss {report.val_loss:.4f}, "
        f"top-1 {report.val_top1:.2%}, {report.images_per_s:.0f} images/s"
    )
