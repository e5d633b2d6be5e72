"""The network that a run starts from, and how it sees pictures: by the flags, else by a checkpoint.

Knows nothing of pictures, steps or files of a run.
"""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

from model.data.dataset import PreprocessConfig
from model.errors import CheckpointError, TrainingError
from model.network import checkpoint, zoo
from model.network.checkpoint_folder import CONFIG
from model.network.mixer import MlpMixer
from model.network.transfer import at_resolution, with_new_head
from model.spec import Fit, ModelSpec, Source
from model.training.options import TrainOptions
from model.weights.config import MixerConfig, variant_name

_SIZES = ("channels", "patch_size", "hidden_dim", "num_blocks", "tokens_mlp_dim", "channels_mlp_dim")
_IN_BUNDLE = "checkpoint"


def open_start(source: str, progress: Callable[[int, int], None] = lambda done, total: None) -> checkpoint.Checkpoint:
    """A checkpoint folder, a bundle that has one inside, or public weights by their name, downloaded where need be.

    Raises: CheckpointError.
    """
    folder = Path(source)
    if (folder / _IN_BUNDLE / CONFIG).is_file() and not (folder / CONFIG).exists():
        return checkpoint.load(folder / _IN_BUNDLE)
    if folder.is_dir() and not (folder / CONFIG).exists() and list(folder.glob("*.onnx")):
        raise CheckpointError(
            f"{source} is a bundle without a checkpoint inside; expected the checkpoint folder that it was exported "
            f"from, or a bundle with {_IN_BUNDLE}/."
        )
    return zoo.open_weights(source, progress)


def preprocess_config(options: TrainOptions, base: checkpoint.Checkpoint | None) -> PreprocessConfig:
    """The preprocessing: by the flags, else by the checkpoint. Raises TrainingError for sizes that it does not have.

    A checkpoint's tilt is of its own things, and is left behind: `mixer straighten` gives the new one its own.
    """
    if base is None:
        return PreprocessConfig(
            options.image_size,
            options.channels,
            Fit(mode=options.fit, background=options.background, frame=options.frame),
        )
    given, config = options.model_fields_set, base.model.config
    for name in _SIZES:
        if name in given and getattr(options, name) != getattr(config, name):
            raise TrainingError(f"{name} is {getattr(options, name)}; the checkpoint has {getattr(config, name)}.")
    fit = (
        base.spec.fit
        if "fit" not in given
        else base.spec.fit.model_copy(update={"mode": options.fit, "crop_percentage": 1.0})
    )
    beside = {name: getattr(options, name) for name in ("background", "frame") if name in given}
    return PreprocessConfig(
        options.image_size if "image_size" in given else config.image_size,
        config.channels,
        Fit.model_validate(fit.model_dump(exclude={"tilt"}) | beside),
        base.spec.interpolation,
    )


def adapted(base: checkpoint.Checkpoint, image_size: int, labels: tuple[str, ...]) -> MlpMixer:
    """The checkpoint's network at this resolution, with a new head unless its classes match."""
    grown = at_resolution(base.model, image_size)
    return grown if labels == base.spec.labels else with_new_head(grown, len(labels))


def new_config(options: TrainOptions, num_classes: int) -> MixerConfig:
    """The sizes that the flags give. Raises TrainingError where they do not fit each other."""
    try:
        sizes = options.model_dump(include={field.name for field in fields(MixerConfig)})
        return MixerConfig(num_classes=num_classes, **sizes)
    except ValueError as error:
        raise TrainingError(str(error)) from error


def spec_of(
    options: TrainOptions,
    config: MixerConfig,
    seen: PreprocessConfig,
    labels: tuple[str, ...],
    base: checkpoint.Checkpoint | None,
) -> ModelSpec:
    """What the result is called, and how it is to be used."""
    return ModelSpec(
        name=options.name or options.out.resolve().name,
        variant=variant_name(config),
        image_size=config.image_size,
        patch_size=config.patch_size,
        channels=3 if config.channels == 3 else 1,
        num_classes=config.num_classes,
        labels=labels,
        fit=seen.fit,
        interpolation=seen.interpolation,
        source=Source(origin=_origin(options, base), license=options.license),
    )


def _origin(options: TrainOptions, base: checkpoint.Checkpoint | None) -> str:
    """Where the weights are from, as cards tell it."""
    pictures = f"the pictures in {options.data.name}"
    if base is None:
        return f"trained on {pictures}"
    if options.freeze:
        return f"head trained on {pictures}, all other weights those of {base.spec.name}"
    return f"trained on {pictures}, starting with the weights of {base.spec.name}"
